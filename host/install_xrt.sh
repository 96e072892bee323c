#!/bin/sh
# Installs the XRT that the host runtime and the emulated card need, where that may be done without asking: as root on
# Debian or Ubuntu, in a container or in CI. Elsewhere one line says what is left out.
set -eu
packages="libxrt-dev uuid-dev"

found() { [ -f "${XILINX_XRT:-/opt/xilinx/xrt}/include/xrt/xrt_kernel.h" ] || [ -f /usr/include/xrt/xrt/xrt_kernel.h ]; }

leave_out() {
  echo "XRT is left out ($1): no --device xrt, no emulated card. To have them: apt install $packages; make setup"
  exit 0
}

found && exit 0
[ "$(id -u)" = 0 ] || leave_out "not root"
command -v apt-get >/dev/null || leave_out "no apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing $packages"
if ! (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages) >"$log" 2>&1; then
  tail -n 2 "$log"
  leave_out "apt-get failed"
fi
found || leave_out "the packages do not have it"
