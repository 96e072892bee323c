# Synthesizes one HLS kernel for its reports. `make csynth` runs it with Vitis HLS 2022.1:
#   vitis_hls -f csynth.tcl -tclargs KERNEL PART PERIOD SOURCE.cpp... FOLDER...
# PERIOD: of the clock, in ns. FOLDER: where headers are. Leaves project/solution/syn/report.

# argv of vitis_hls holds the other options, too.
set first [expr {[lsearch -exact $argv -tclargs] + 1}]
lassign [lrange $argv $first end] kernel part period
set sources [list]
set flags ""
foreach path [lrange $argv [expr {$first + 3}] end] {
  if {[file extension $path] eq ".cpp"} {
    lappend sources $path
  } else {
    append flags " -I[file normalize $path]"
  }
}

open_project -reset project
set_top $kernel
foreach source $sources {
  add_files $source -cflags [string trim $flags]
}
open_solution -reset solution -flow_target vitis
set_part $part
create_clock -period $period -name default
csynth_design
exit
