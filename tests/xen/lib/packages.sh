# What the lab is made of, fetched with the machine's own apt and only unpacked, never installed:
# Xen, its tools and two kernels. Sourced by tests/xen/run.
#
#   $cache/packages/*.deb     as fetched
#   $cache/tree/PACKAGE/      unpacked

host_packages=(qemu-system-x86 busybox-static cpio kmod xz-utils lz4 libxen-dev gcc g++ libc6-dev binutils)

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

# depends PACKAGE PATTERN: the first dependency that matches, i.e. what a metapackage means today.
depends() { apt-cache depends "$1" | awk -v p="$2" '$1 == "Depends:" && $2 ~ p { print $2; exit }'; }

find_packages() {
  kernel_package=$(depends linux-image-amd64 '^linux-image-[0-9]')
  guest_kernel_package=$(depends linux-image-cloud-amd64 '^linux-image-[0-9]')
  xen_package=$(apt-cache search --names-only '^xen-hypervisor-[0-9.]+-amd64$' | sort -V | awk 'END { print $1 }')
  [[ $kernel_package && $guest_kernel_package && $xen_package ]] || unavailable "apt knows no Xen or no kernel: apt-get update?"
  xen_version=${xen_package#xen-hypervisor-}
  xen_version=${xen_version%-amd64}
  kernel_version=${kernel_package#linux-image-}
  guest_kernel_version=${guest_kernel_package#linux-image-}
  lab_packages=("$xen_package" "xen-utils-$xen_version" xen-utils-common xenstore-utils
    "libxenmisc$xen_version" libxencall1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenstore4
    libxentoollog1 libxentoolcore1 libxendevicemodel1 libxenhypfs1 libyajl2 libncurses6 libtinfo6
    "$kernel_package" "$guest_kernel_package")
}

fetch_packages() {
  local package wanted=()
  mkdir -p "$cache/packages" "$cache/tree"
  for package in "${lab_packages[@]}"; do [[ -d $cache/tree/$package ]] || wanted+=("$package"); done
  ((${#wanted[@]} > 0)) || return 0
  step "fetching ${#wanted[@]} packages"
  (cd "$cache/packages" && apt-get -q download "${wanted[@]}" >"$cache/fetch.log" 2>&1) ||
    { tail -n 5 "$cache/fetch.log" >&2; unavailable "apt-get download failed (apt-get update may help)"; }
  local deb
  for package in "${wanted[@]}"; do
    for deb in "$cache/packages/${package}"_*.deb; do :; done    # the newest, should there be several
    rm -rf "$cache/tree/$package.new"
    dpkg -x "$deb" "$cache/tree/$package.new" && mv "$cache/tree/$package.new" "$cache/tree/$package"
  done
  rm -f "$cache/packages"/*.deb
}
