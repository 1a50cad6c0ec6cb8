# Sourced: roots of Debian's releases, made once by debootstrap from where this machine's own apt gets its packages.
#
#   ${XDG_CACHE_HOME:-~/.cache}/xenloop-roots/RELEASE[+ARCHITECTURE]    with the packages that somebody has asked for

# release_root RELEASE[+ARCHITECTURE] PACKAGE...: prints its path. What is said meanwhile goes to stderr. With an
# architecture: a root of this machine's that also takes packages of that one (libc6:arm64).
release_root() {
  local release=${1%%+*} foreign='' roots=${XDG_CACHE_HOME:-$HOME/.cache}/xenloop-roots site script missing=() package
  local root=$roots/$1
  [[ $1 != *+* ]] || foreign=${1##*+}
  shift
  if [[ ! -e $root/etc/debian_version ]]; then
    [[ ${XENLOOP_NO_APT:-} != 1 ]] || { echo "no root of $release yet, and XENLOOP_NO_APT=1 is set" >&2; return 1; }
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed" >&2; return 1; }
    site=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' | awk '$1 == "main" && $2 !~ /security/ { print $2; exit }')
    [[ -n $site ]] || { echo "apt knows no sources: apt-get update?" >&2; return 1; }
    script=/usr/share/debootstrap/scripts/$release
    [[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid
    rm -rf --one-file-system "$root.new"
    mkdir -p "$root.new"
    debootstrap --variant=minbase "$release" "$root.new" "$site" "$script" >&2 || return 1
    apt-config dump | grep -E '^Acquire::(https?::|Retries)' >"$root.new/etc/apt/apt.conf.d/90machine" || true
    # A release that is not out yet is not always renewed in time.
    echo 'Acquire::Check-Valid-Until "false";' >"$root.new/etc/apt/apt.conf.d/91valid"
    [[ -z $foreign ]] || chroot "$root.new" dpkg --add-architecture "$foreign"
    printf '#!/bin/sh\nexit 101\n' >"$root.new/usr/sbin/policy-rc.d"
    chmod 755 "$root.new/usr/sbin/policy-rc.d"
    mv "$root.new" "$root"
  fi
  for package; do
    [[ $(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  if ((${#missing[@]} > 0)); then
    [[ ${XENLOOP_NO_APT:-} != 1 ]] || { echo "not in the root of $release: ${missing[*]}" >&2; return 1; }
    cp -L /etc/resolv.conf "$root/etc/"
    in_release_root "$root" env DEBIAN_FRONTEND=noninteractive bash -ec 'apt-get -q update
      apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install "$@"' _ "${missing[@]}" \
      >&2 </dev/null || return 1
  fi
  echo "$root"
}

# in_release_root ROOT COMMAND...: with what a machine has (/dev, /proc, /sys) and a /dev/shm of its own, in a mount
# namespace of its own whose / it is: `unshare -m` in there wants / to be a mount, and `nsenter -m` goes to it.
in_release_root() {
  unshare -m bash -ec 'mount --bind "$1" "$1"; mount --rbind /dev "$1/dev"; mount -t tmpfs none "$1/dev/shm"
    mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; cd "$1"; shift
    pivot_root . .; umount -l .; cd /; exec "$@"' _ "$@"
}

# copy_source ROOT [FOLDER]: this source tree as it is, without what was built, at /source or there.
copy_source() {
  mkdir -p "$1${2:-/source}"
  tar -C "$(dirname "${BASH_SOURCE[0]}")/../.." --exclude=./build --exclude=./.git -cf - . | tar -C "$1${2:-/source}" -xf -
}
