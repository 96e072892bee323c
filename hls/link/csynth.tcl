# Synthesizes one HLS kernel for its reports. `make csynth` runs it with Vitis HLS 2022.1:
#   vitis_hls -f csynth.tcl -tclargs KERNEL SOURCE PART PERIOD FOLDER...
# PERIOD: of the clock, in ns. FOLDER: where headers are. Leaves project/solution/syn/report.

# argv of vitis_hls holds the other options, too.
set first [expr {[lsearch -exact $argv -tclargs] + 1}]
lassign [lrange $argv $first end] kernel source part period
set flags ""
foreach folder [lrange $argv [expr {$first + 4}] end] {
  append flags " -I[file normalize $folder]"
}

open_project -reset project
set_top $kernel
add_files $source -cflags [string trim $flags]
open_solution -reset solution -flow_target vitis
set_part $part
create_clock -period $period -name default
csynth_design
exit
