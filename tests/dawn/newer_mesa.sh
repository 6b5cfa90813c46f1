#!/bin/bash
# Runs Deno with lavapipe of Debian sid's Mesa, which offers subgroup matrices to Dawn (8 x 8 x 8;
# seen with Mesa 26.2). The first run unpacks it (70 MB) into a folder of its own.
#
#     newer_mesa.sh ARGUMENTS-OF-DENO
#
# Requires x86-64 Linux, apt-get, dpkg and the package debian-archive-keyring, but no root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${XDG_CACHE_HOME:-$HOME/.cache}/bluerose/newer-mesa
mesa=$work/mesa lib=$work/mesa/usr/lib/x86_64-linux-gnu
mkdir -p "$work"
if [ ! -e "$work/complete" ]; then
  bash "$here/../../bench/gpu_model/unpack_mesa.sh" "$mesa" sid >"$work/package"
  mv "$work/package" "$work/complete"
fi
printf '{"ICD":{"api_version":"1.4.0","library_path":"%s"},"file_format_version":"1.0.1"}\n' \
  "$lib/libvulkan_lvp.so" >"$work/icd.json"
export VK_DRIVER_FILES=$work/icd.json VK_ICD_FILENAMES=$work/icd.json
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
# Mesa is newer than the system's C library may be, so Deno runs on the one that came with it.
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$(command -v deno)" "$@"
