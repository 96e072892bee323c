# Packages the RTL engine as a Vitis kernel: free-running, AXI4-Streams only. `make hw` runs it with Vivado 2022.1:
#   vivado -mode batch -source package_engine.tcl -tclargs XO PART KERNEL RTL NAME:MODE...
# XO: file to write. RTL: folder of pkg, src and syn. NAME:MODE: a stream and slave (in) or master (out).
# Leaves the packaged IP in ./ip, a Vivado project in ./project and the kernel's description in ./kernel.xml.

# Vivado's argv begins behind -tclargs, other tools' does not.
set first [expr {[lsearch -exact $argv -tclargs] + 1}]
lassign [lrange $argv $first end] xo part kernel rtl
set streams [lrange $argv [expr {$first + 4}] end]
set top ${kernel}_kernel

create_project -force package ./project -part $part
add_files -norecurse [concat [lsort [glob $rtl/pkg/*.sv]] [lsort [glob $rtl/src/*.sv]] $rtl/syn/$top.v]
set_property top $top [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir ./ip -vendor bertile -library kernel -taxonomy /KernelIP -import_files -set_current true
set core [ipx::current_core]
set_property name $kernel $core
set_property display_name $kernel $core
set_property version 1.0 $core
set_property core_revision 1 $core
set_property supported_families {} $core
set_property auto_family_support_level level_2 $core

# A port that Vivado does not take for a stream would be left unconnected by the linker.
foreach stream $streams {
  lassign [split $stream :] name mode
  set interface [ipx::get_bus_interfaces $name -of_objects $core]
  if {$interface eq ""} {
    error "ERROR: no stream $name on $top"
  }
  if {[get_property interface_mode $interface] ne $mode} {
    error "ERROR: stream $name of $top is [get_property interface_mode $interface], not $mode"
  }
  ipx::associate_bus_interfaces -busif $name -clock ap_clk $core
}
ipx::associate_bus_interfaces -clock ap_clk -reset ap_rst_n $core

set_property sdx_kernel true $core
set_property sdx_kernel_type rtl $core
set_property ipi_drc {ignore_freq_hz true} $core
set_property vitis_drc {ctrl_protocol ap_ctrl_none} $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity -kernel $core
ipx::save_core $core

package_xo -force -xo_path $xo -kernel_name $kernel -ctrl_protocol ap_ctrl_none -ip_directory ./ip \
  -output_kernel_xml ./kernel.xml
close_project
