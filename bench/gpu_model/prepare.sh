#!/bin/bash
# Prepares the static GPU model: unpacks Mesa 25.0 and the Vulkan headers, compiles the null driver.
#
#     prepare.sh FOLDER
#
# Everything goes into FOLDER; the system's own packages stay as they are. The packages come from
# Debian trixie (see unpack_mesa.sh). Newer versions of Mesa do not do: Mesa 26 has no null device
# any more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$1 mesa=$1/mesa
mkdir -p "$work"

if [ ! -e "$work/complete" ]; then
  bash "$here/unpack_mesa.sh" "$mesa" trixie libvulkan-dev >"$work/package"
  mv "$work/package" "$work/complete"
fi
if [ "$here/null_icd.c" -nt "$work/null_icd.so" ]; then
  command -v gcc >/dev/null || { echo "gcc is missing: apt-get install gcc" >&2; exit 1; }
  gcc -O1 -shared -fPIC -fvisibility=hidden -Wall -isystem "$mesa/usr/include" -o "$work/null_icd.so" "$here/null_icd.c" -ldl
fi
printf '{"ICD":{"api_version":"1.4.305","library_path":"%s"},"file_format_version":"1.0.0"}\n' \
  "$work/null_icd.so" >"$work/icd.json"
