#!/bin/sh
# Runs a task of Blue Rose. Installs Deno and a Vulkan driver first if they are missing. `sh run.sh` lists the tasks.
set -eu

deno_wanted=2.9.6  # the version to install; an installed Deno is used if it is 2.9 or later
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/bluerose
private=$cache/deno-$deno_wanted  # npm, pip and Deno's installer all create bin/deno in this folder

help() {
  cat <<'HELP'
Blue Rose edits the implicit assumptions of a text-to-image model, and draws with the edited model.

  sh run.sh demo     [flags]    edit the embedded model and draw before and after    (demo --help)
  sh run.sh studio   [flags]    open a page on which edits are made and seen         (studio --help)
  sh run.sh bluerose [flags]    the command line: generate, edit, …                  (bluerose --help)
  sh run.sh test     [flags]    the tests                                            (flags of deno test)
  sh run.sh bench    [flags]    measure kernels, drawing and editing                 (bench --help)
  sh run.sh setup    [chromium] install Deno and a driver if missing, and Chromium if named; print versions

Each task first installs missing requirements: Deno (with npm, pip or its own installer) and a Vulkan driver (Mesa, with apt).
HELP
}

say() { printf 'run.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs an installer; shows its output only if it fails.
quietly() {
  log=$(mktemp "${TMPDIR:-/tmp}/bluerose-log.XXXXXX")
  if "$@" >"$log" 2>&1 </dev/null; then rm -f "$log"; return 0; fi
  say "failed: $*"
  tail -n 12 "$log" | sed 's/^/    /' >&2
  rm -f "$log"
  return 1
}

# ---- apt -------------------------------------------------------------------------------------------------------------

# Prints the prefix for commands that need root: empty as root, otherwise "sudo -n". Fails without root access.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then echo ""; return 0; fi
  have sudo || return 1
  if sudo -n true 2>/dev/null; then echo "sudo -n"; return 0; fi
  [ -t 0 ] && [ -t 2 ] || return 1  # not interactive: nobody can type the password
  say "sudo asks for your password to install: $*"
  sudo -v >&2 && echo "sudo -n"
}

apt_get() {
  # shellcheck disable=SC2086 # $root_prefix must be split into words, and may be empty
  $root_prefix env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"
}

apt_install() {
  root_prefix=$(as_root "$@") || { say "root access is required to run: apt-get install $*"; return 1; }
  say "installing with apt: $*"
  # If it fails, the package lists may be missing (fresh containers) or out of date: update them and retry.
  apt_get install -y --no-install-recommends "$@" >/dev/null 2>&1 </dev/null ||
    { quietly apt_get update && quietly apt_get install -y --no-install-recommends "$@"; }
}

# ---- Deno ------------------------------------------------------------------------------------------------------------

# Sets $deno to $1 if that runs and is Deno 2.9 or later.
accept_deno() {
  version=$("$1" --version 2>/dev/null | sed -n 's/^deno \([0-9][0-9.]*\).*/\1/p') || return 1
  major=${version%%.*}
  rest=${version#*.}
  minor=${rest%%.*}
  [ -n "$major" ] && [ -n "$minor" ] || return 1
  [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 9 ]; } || return 1
  deno=$1
}

find_deno() {
  for candidate in "$(command -v deno || true)" "${DENO_INSTALL:-${HOME:-/nonexistent}/.deno}/bin/deno" "$private/bin/deno"; do
    if [ -n "$candidate" ] && accept_deno "$candidate"; then return 0; fi
  done
  return 1
}

deno_by_npm() {
  have npm || return 1
  prefix=$(npm prefix -g 2>/dev/null) || return 1
  if [ -w "$prefix/lib/node_modules" ] && [ -w "$prefix/bin" ]; then
    say "installing Deno $deno_wanted with npm into $prefix"
  else
    prefix=$private
    say "installing Deno $deno_wanted with npm into $prefix (npm's own folder is not writable)"
  fi
  quietly npm install --global --prefix "$prefix" "deno@$deno_wanted" || return 1
  accept_deno "$prefix/bin/deno" || accept_deno "$prefix/deno"
}

deno_by_pip() {
  for python in python3 python; do
    "$python" -m pip --version >/dev/null 2>&1 || continue
    say "installing Deno $deno_wanted with pip into $private"
    # --target does not change the system's Python, so "externally managed" installations allow it.
    quietly "$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$private" \
      "deno==$deno_wanted" || return 1
    accept_deno "$private/bin/deno" && return 0
  done
  return 1
}

deno_by_installer() {
  have curl || have wget || return 1
  have unzip || have 7z || { say "Deno's own installer needs unzip or 7z"; return 1; }
  say "installing Deno $deno_wanted with its own installer into $private"
  mkdir -p "$private"
  script=$private/install.sh
  if have curl; then quietly curl -fsSL --connect-timeout 20 https://deno.land/install.sh -o "$script" || return 1
  else quietly wget -q -T 20 https://deno.land/install.sh -O "$script" || return 1; fi
  quietly env DENO_INSTALL="$private" sh "$script" "v$deno_wanted" --yes --no-modify-path || return 1
  accept_deno "$private/bin/deno"
}

ensure_deno() {
  find_deno && return 0
  if have deno; then say "the deno on the PATH ($(command -v deno)) does not run or is older than 2.9"; fi
  deno_by_npm || deno_by_pip || deno_by_installer && return 0
  # A minimal Debian has none of the three. Installing pip is the fastest way.
  if have apt-get && ! have pip3 && apt_install python3-pip && deno_by_pip; then return 0; fi
  fail "Deno 2.9 or later is required and could not be installed. Install it from https://docs.deno.com/runtime/getting_started/installation, or install npm or pip, and run this again."
}

# ---- Vulkan ----------------------------------------------------------------------------------------------------------

# Prints the driver manifests (ICD files) that the Vulkan loader reads, one per line.
vulkan_drivers() {
  named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
  if [ -n "$named" ]; then
    printf '%s\n' "$named" | tr ':' '\n'
    return 0
  fi
  data_dirs=${XDG_DATA_HOME:-${HOME:-}/.local/share}:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}
  config_dirs=${XDG_CONFIG_HOME:-${HOME:-}/.config}:${XDG_CONFIG_DIRS:-/etc/xdg}:/etc:/usr/local/etc
  printf '%s\n' "$config_dirs:$data_dirs:/run/opengl-driver/share" | tr ':' '\n' | while IFS= read -r dir; do
    for manifest in "$dir"/vulkan/icd.d/*.json; do
      if [ -f "$manifest" ]; then printf '%s\n' "$manifest"; fi
    done
  done
}

has_vulkan_loader() {
  if have ldconfig; then ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' && return 0; fi
  if [ -x /sbin/ldconfig ]; then /sbin/ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' && return 0; fi
  for library in /usr/lib/libvulkan.so.1 /usr/lib64/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 \
    /usr/local/lib/libvulkan.so.1 /run/opengl-driver/lib/libvulkan.so.1; do
    [ -e "$library" ] && return 0
  done
  [ -n "${LD_LIBRARY_PATH:-}" ]  # it may be there; has_adapter then asks Deno
}

# Whether WebGPU finds a device. The software driver always provides one. A GPU's driver may be installed without the
# GPU (as in containers), so Deno is asked in that case.
has_adapter() {
  has_vulkan_loader || return 1
  drivers=$(vulkan_drivers)
  [ -n "$drivers" ] || return 1
  case $drivers in *lvp_icd*) return 0 ;; esac
  "$deno" eval 'Deno.exit(await navigator.gpu?.requestAdapter() ? 0 : 1)' >/dev/null 2>&1
}

ensure_driver() {
  case $(uname -s) in Linux) ;; *) return 0 ;; esac  # macOS has Metal, Windows Direct3D
  named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
  if [ -n "$named" ]; then
    for manifest in $(printf '%s' "$named" | tr ':' ' '); do
      [ -e "$manifest" ] ||
        fail "VK_DRIVER_FILES or VK_ICD_FILENAMES names $manifest, which does not exist. Correct or unset it."
    done
  fi
  has_adapter && return 0
  if [ -n "$named" ]; then
    fail "The Vulkan driver that VK_DRIVER_FILES or VK_ICD_FILENAMES names ($named) provides no device. Correct or unset it."
  fi
  say "no usable Vulkan driver found; using Mesa's software driver, which runs on the CPU"
  if have apt-get; then
    apt_install mesa-vulkan-drivers libvulkan1 ||
      fail "Could not install Mesa's Vulkan drivers. As root, run: apt-get update && apt-get install -y mesa-vulkan-drivers"
    has_adapter || fail "mesa-vulkan-drivers is installed, but Deno still finds no WebGPU adapter. Try: $deno eval 'console.log(await navigator.gpu.requestAdapter())'"
    return 0
  fi
  if have dnf; then fail "Install a Vulkan driver and run this again: sudo dnf install mesa-vulkan-drivers vulkan-loader"; fi
  if have pacman; then fail "Install a Vulkan driver and run this again: sudo pacman -S vulkan-swrast vulkan-icd-loader"; fi
  if have zypper; then fail "Install a Vulkan driver and run this again: sudo zypper install libvulkan_lvp libvulkan1"; fi
  if have apk; then fail "Install a Vulkan driver and run this again: apk add mesa-vulkan-swrast vulkan-loader"; fi
  fail "Install a Vulkan driver and loader with this system's package manager (Mesa's lavapipe works without a GPU), and run this again."
}

# ---- Chromium --------------------------------------------------------------------------------------------------------

# For the tests in a browser, which are skipped without it.
ensure_chromium() {
  for name in chromium chromium-browser google-chrome; do
    if [ -x "/usr/bin/$name" ]; then chromium=/usr/bin/$name; return 0; fi
  done
  chromium="none: the tests in a browser are skipped"
  if have apt-get && apt_install chromium && [ -x /usr/bin/chromium ]; then chromium=/usr/bin/chromium; fi
}

# ---- The task --------------------------------------------------------------------------------------------------------

prepare() {
  # The Vulkan loader and Mesa print warnings if this is unset.
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
  # LP_NATIVE_VECTOR_WIDTH stays unset: at 512, the software driver's subgroups have 16 lanes, and
  # some of the fastest kernels require 8 (docs/tuning.md).
  ensure_deno
  ensure_driver
}

# Runs the command line in the current working directory, to which relative paths refer. The first argument is the
# name of a permission set in deno.json.
command_line() {
  permissions=$1
  shift
  exec "$deno" run -q -P="$permissions" --no-prompt --config "$here/deno.json" "$here/cli/main.ts" "$@"
}

task=${1:-help}
[ $# -eq 0 ] || shift
case $task in
  demo | studio | bench)
    prepare
    command_line "$task" "$task" "$@"
    ;;
  bluerose)
    prepare
    if [ "${1:-}" = bench ]; then command_line bench "$@"; fi
    command_line bluerose "$@"
    ;;
  test)
    prepare
    cd "$here"
    exec "$deno" task test "$@"
    ;;
  setup)
    prepare
    cd "$here"
    "$deno" install --quiet
    echo "Deno:   $deno ($("$deno" --version | head -n 1))"
    case $(uname -s) in Linux) echo "Vulkan: $(vulkan_drivers | tr '\n' ' ')" ;; esac
    if [ "${1:-}" = chromium ]; then
      ensure_chromium
      echo "Chromium: $chromium"
    fi
    ;;
  help | -h | --help) help ;;
  *)
    help >&2
    say "Cannot run '$task': the tasks are demo, studio, bluerose, test, bench and setup."
    exit 2
    ;;
esac
