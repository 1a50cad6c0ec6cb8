# What the lab is made of, fetched with the machine's own apt and only unpacked, never installed:
# Xen, its tools and two kernels, of the release $suite. Sourced by tests/xen/run.
#
#   $cache/SUITE/packages/*.deb   as fetched
#   $cache/SUITE/tree/PACKAGE/    unpacked
#   $cache/SUITE/apt/             lists of a release that is not this machine's

host_packages=(qemu-system-x86 busybox-static cpio kmod xz-utils lz4 zstd libxen-dev gcc g++ libc6-dev binutils
  util-linux)
own_suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
apt_options=()                 # for another release than this machine's: lists of its own

install_host_packages() {
  local missing=() package as_root=()
  for package in "${host_packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  [[ ${XENLOOP_NO_APT:-} != 1 ]] || unavailable "not installed: ${missing[*]} (and XENLOOP_NO_APT=1 is set)"
  step "installing ${missing[*]}"
  [[ $(id -u) == 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get -q update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      -o Dpkg::Use-Pty=0 install "${missing[@]}" || unavailable "apt-get failed"
}

# other_release: gives apt lists of $suite's own, from where this machine's apt has its packages.
other_release() {
  [[ $suite != "$own_suite" ]] || return 0
  local at=$cache/$suite/apt site
  apt_options=(-o "Dir::Etc::sourcelist=$at/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$at/state"
    -o "Dir::State::status=$at/status" -o "Dir::Cache=$at/cache" -o APT::Default-Release= -o Dir::Etc::preferencesparts=/dev/null)
  [[ ! -e $at/fetched ]] || return 0
  site=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' | awk '$1 == "main" && $2 !~ /security/ { print $2; exit }')
  [[ $site ]] || unavailable "apt knows no sources: apt-get update?"
  step "asking for the packages of $suite"
  mkdir -p "$at/state/lists/partial" "$at/cache/archives/partial"
  : >"$at/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$at/sources.list"
  apt-get "${apt_options[@]}" -q update >"$at/log" 2>&1 && ! grep -q '^[EW]:.*Failed' "$at/log" ||
    { tail -n 3 "$at/log" >&2; unavailable "apt-get update for $suite failed"; }
  touch "$at/fetched"
}

# depends PACKAGE PATTERN: the first dependency that matches, i.e. what a metapackage means today.
depends() { apt-cache "${apt_options[@]}" depends "$1" | awk -v p="$2" '$1 == "Depends:" && $2 ~ p { print $2; exit }'; }

# libraries_of PACKAGE...: the packages of libraries that these need, the C library among them.
libraries_of() {
  apt-cache "${apt_options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances --no-pre-depends "$@" | awk '$1 ~ /Depends:$/ && $2 ~ /^(lib|zlib)/ { print $2 }' | sort -u
}

find_packages() {
  kernel_package=$(depends linux-image-amd64 '^linux-image-[0-9]')
  guest_kernel_package=$(depends linux-image-cloud-amd64 '^linux-image-[0-9]')
  xen_package=$(apt-cache "${apt_options[@]}" search --names-only '^xen-hypervisor-[0-9.]+-amd64$' | sort -V | awk 'END { print $1 }')
  [[ $kernel_package && $guest_kernel_package && $xen_package ]] || unavailable "apt knows no Xen or no kernel: apt-get update?"
  xen_version=${xen_package#xen-hypervisor-}
  xen_version=${xen_version%-amd64}
  kernel_version=${kernel_package#linux-image-}
  guest_kernel_version=${guest_kernel_package#linux-image-}
  lab_packages=("$xen_package" "xen-utils-$xen_version" xen-utils-common xenstore-utils
    "libxenmisc$xen_version" libxencall1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenstore4
    libxentoollog1 libxentoolcore1 libxendevicemodel1 libxenhypfs1 libyajl2 libncurses6 libtinfo6
    "$kernel_package" "$guest_kernel_package")
  # With another release's programs comes its C library, and what else they need; this machine's own
  # programs have theirs from here (images.sh, closure).
  suite_libraries=()
  [[ $suite == "$own_suite" ]] || mapfile -t suite_libraries < <(libraries_of "${lab_packages[@]:3:15}")
  local library known=" ${lab_packages[*]} "
  for library in "${suite_libraries[@]}"; do [[ $known == *" $library "* ]] || lab_packages+=("$library"); done
}

fetch_packages() {
  local package wanted=()
  mkdir -p "$packages" "$tree"
  for package in "${lab_packages[@]}"; do [[ -d $tree/$package ]] || wanted+=("$package"); done
  ((${#wanted[@]} > 0)) || return 0
  step "fetching ${#wanted[@]} packages of $suite"
  (cd "$packages" && apt-get "${apt_options[@]}" -q download "${wanted[@]}" >"$cache/fetch.log" 2>&1) ||
    { tail -n 5 "$cache/fetch.log" >&2; unavailable "apt-get download failed (apt-get update may help)"; }
  local deb
  for package in "${wanted[@]}"; do
    for deb in "$packages/${package}"_*.deb; do :; done    # the newest, should there be several
    rm -rf "$tree/$package.new"
    dpkg -x "$deb" "$tree/$package.new" && mv "$tree/$package.new" "$tree/$package"
  done
  rm -f "$packages"/*.deb
}
