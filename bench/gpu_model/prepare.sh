#!/bin/bash
# Prepares the static GPU model: unpacks Mesa 25.0 and the Vulkan headers, compiles the null driver.
#
#     prepare.sh FOLDER
#
# Everything goes into FOLDER; the system's own packages stay as they are. The packages come from
# Debian trixie, by apt and its mirror. GPU_MODEL_MIRROR names another mirror of Debian, for systems
# whose apt knows none. Newer versions of Mesa do not do: Mesa 26 has no null device any more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$1 mesa=$1/mesa lib=$1/mesa/usr/lib/x86_64-linux-gnu
suite=trixie
mkdir -p "$work"

need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }; }
if [ ! -e "$work/complete" ]; then
  need apt-get apt
  need dpkg dpkg
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e $keys ] || { echo "$keys is missing: apt-get install debian-archive-keyring" >&2; exit 1; }
  mirror=${GPU_MODEL_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
    grep -v security | head -n 1)}
  [ -n "$mirror" ] || { echo "apt knows no mirror of Debian: set GPU_MODEL_MIRROR to one's URL" >&2; exit 1; }
  apt=$work/apt
  rm -rf "$apt" "$mesa"
  mkdir -p "$mesa" "$apt"/{lists/partial,cache/archives/partial,etc}
  echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/etc/sources.list"
  : >"$apt/status"
  options=(-q -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
    -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" install -y --no-install-recommends --download-only \
    mesa-vulkan-drivers libvulkan1 libvulkan-dev libstdc++6
  for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$mesa"; done
  basename -a "$apt"/cache/archives/mesa-vulkan-drivers_*.deb >"$work/complete"
  rm -rf "$apt"
fi
if [ "$here/null_icd.c" -nt "$work/null_icd.so" ]; then
  need gcc gcc
  gcc -O1 -shared -fPIC -fvisibility=hidden -Wall -isystem "$mesa/usr/include" -o "$work/null_icd.so" "$here/null_icd.c" -ldl
fi
printf '{"ICD":{"api_version":"1.4.305","library_path":"%s"},"file_format_version":"1.0.0"}\n' \
  "$work/null_icd.so" >"$work/icd.json"
