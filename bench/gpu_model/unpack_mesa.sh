#!/bin/bash
# Unpacks Mesa's Vulkan drivers of a Debian suite, and all that they need, with the C library, into
# a folder, and prints the name of their package. The system's own packages stay as they are.
#
#     unpack_mesa.sh FOLDER SUITE [PACKAGE...]
#
# apt downloads from its mirror. GPU_MODEL_MIRROR names another mirror of Debian, for systems whose
# apt knows none.
set -euo pipefail
folder=$1 suite=$2
shift 2

need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }; }
need apt-get apt
need dpkg dpkg
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keys ] || { echo "$keys is missing: apt-get install debian-archive-keyring" >&2; exit 1; }
mirror=${GPU_MODEL_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
  grep -v security | head -n 1)}
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian: set GPU_MODEL_MIRROR to one's URL" >&2; exit 1; }
apt=$folder.apt
rm -rf "$apt" "$folder"
mkdir -p "$folder" "$apt"/{lists/partial,cache/archives/partial,etc}
echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/etc/sources.list"
: >"$apt/status"
options=(-qq -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
  -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" install -y --no-install-recommends --download-only \
  mesa-vulkan-drivers libvulkan1 libstdc++6 "$@" >&2
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$folder"; done
basename -a "$apt"/cache/archives/mesa-vulkan-drivers_*.deb
rm -rf "$apt"
