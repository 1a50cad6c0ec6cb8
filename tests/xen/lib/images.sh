# The images: one initial RAM file system for Dom0, one for the guests, from unpacked packages, and a
# small third one, the payload (what is under test), which the kernel unpacks over either. Sourced by
# tests/xen/run. The first two are cached under a hash of all that goes into them.

multiarch=usr/lib/x86_64-linux-gnu

# new_root DIRECTORY: busybox, its applets, the folders.
new_root() {
  local root=$1 applet
  rm -rf "$root"
  mkdir -p "$root"/usr/{bin,sbin,lib64} "$root/$multiarch" \
    "$root"/{proc,sys,dev,tmp,run,etc,root,share,var/lib/xen,var/lib/xenstored,var/log/xen,var/run}
  local link
  for link in bin sbin lib lib64; do ln -s usr/$link "$root/$link"; done
  cp /bin/busybox "$root/usr/bin/busybox"
  # The applet `busybox` must not replace the program by a link to itself.
  for applet in $(/bin/busybox --list | grep -vx busybox); do ln -sf busybox "$root/usr/bin/$applet"; done
  echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
www-data:x:33:33:www-data:/:/bin/sh
user:x:1000:1000:user:/tmp:/bin/sh
sshd:x:100:65534::/run/sshd:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:
nogroup:x:65534:
www-data:x:33:
xenloop:x:990:user
user:x:1000:' >"$root/etc/group"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
}

# unpacked PACKAGE ROOT: a package's files, without documentation and Python.
unpacked() {
  tar -C "$tree/$1" -c --exclude=./usr/share --exclude='*/python3*' --exclude='*.a' . |
    tar -x -C "$2" --keep-directory-symlink
}

# closure ROOT: the libraries that the programs and libraries in ROOT need and ROOT has not, copied from this
# machine. The lab's programs are built here, so the C library is this machine's, unless the suite has brought
# one: then that one's ld.so is asked. What is built here runs with a newer one, not with an older.
closure() {
  local root=$1 library ask=(/lib64/ld-linux-x86-64.so.2)
  [[ ! -e $root/$multiarch/ld-linux-x86-64.so.2 ]] || ask=("$root/$multiarch/ld-linux-x86-64.so.2")
  ask+=(--library-path "$root/$multiarch:$root/usr/lib/xen-$xen_version/lib/x86_64-linux-gnu" --list)
  find "$root"/usr -type f \( -perm -u+x -o -name '*.so*' \) ! -path '*/modules/*' ! -name 'ld-linux*' -print0 |
      xargs -0 -r -n 1 "${ask[@]}" 2>/dev/null | awk '/=> \//{print $3} /^\t\/lib64/{print $1}' | sort -u |
    while read -r library; do
      case $library in
        "$root"/*) ;;
        /lib64/*) mkdir -p "$root/usr/lib64"; cp -nL "$library" "$root/usr/lib64/" ;;
        *) mkdir -p "$root/$multiarch"; cp -nL "$library" "$root/$multiarch/" ;;
      esac
    done
}

# kernel_modules ROOT PACKAGE VERSION MODULE...
kernel_modules() {
  local root=$1 from=$tree/$2/lib/modules/$3 to=$1/usr/lib/modules/$3 version=$3 module found
  [[ -d $from ]] || from=$tree/$2/usr/lib/modules/$3
  shift 3
  mkdir -p "$to"
  for module; do
    found=$(find "$from" -name "$module.ko*" -o -name "${module//_/-}.ko*" | head -n 1)
    case $found in
      '') ;;                                                        # built in
      *.xz) xz -dc "$found" >"$to/module.ko" && strip -g -o "$to/$(basename "$found" .xz)" "$to/module.ko" ;;
      *) strip -g -o "$to/${found##*/}" "$found" ;;
    esac
    rm -f "$to/module.ko"
  done
  cp "$from/modules.builtin" "$from/modules.order" "$to/"
  depmod -b "$root/usr" "$version" 2>/dev/null || /sbin/depmod -b "$root/usr" "$version"
}

pack() { (cd "$1" && find . -print0 | cpio -0 -o -H newc --quiet -R 0:0 | gzip -1); }

dom0_image() {
  local root=$1/dom0 package tool tools=$1/dom0/usr/lib/xen-$xen_version/bin
  new_root "$root"
  for package in "${lab_packages[@]}"; do
    case $package in xen-utils* | xenstore-utils | lib* | zlib*) unpacked "$package" "$root" ;; esac
  done
  for tool in xl xenstored xenconsoled xen-init-dom0 xenconsole xenstore-control lsevtchn xen-diag; do
    ln -sf "../lib/xen-$xen_version/bin/$tool" "$root/usr/bin/$tool"
  done
  rm -f "$tools"/{test-*,xen-access,flask*,oxenstored,xen-kdd,xenalyze,init-xenstore-domain,pygrub,xentop}
  rm -f "$tools"/qemu* ; rm -rf "$root/usr/lib/xen-$xen_version/boot"
  xenstore_tools "$root"
  cp "$1/lab_shell" guest/devices "$root/usr/bin/"
  kernel_modules "$root" "$kernel_package" "$kernel_version" xen-evtchn xen-gntdev xen-gntalloc xenfs \
    xen-privcmd xen-netback bridge stp llc virtio virtio_ring virtio_pci virtio_pci_modern_dev \
    virtio_pci_legacy_dev 9p 9pnet 9pnet_virtio netfs fscache tun e1000 inet_diag tcp_diag
  mkdir -p "$root/etc/xen/scripts"
  install -m 755 guest/dom0-init "$root/init"
  install -m 755 guest/vif-lab "$root/etc/xen/scripts/vif-lab"
  finish_root "$root"
}

guest_image() {
  local root=$1/guest
  new_root "$root"
  local package
  for package in libxengnttab1 libxenevtchn1 libxenstore4 libxentoollog1 libxentoolcore1 libxencall1 \
    "${suite_libraries[@]}"; do
    unpacked "$package" "$root"
  done
  xenstore_tools "$root"
  cp "$1/lab_shell" guest/devices "$root/usr/bin/"
  kernel_modules "$root" "$guest_kernel_package" "$guest_kernel_version" xen-evtchn xen-gntdev \
    xen-gntalloc xenfs xen-netfront xen-privcmd inet_diag tcp_diag
  install -m 755 guest/domu-init "$root/init"
  finish_root "$root"
}

xenstore_tools() {
  local tool
  for tool in read write ls list rm exists chmod watch; do
    rm -f "$1/usr/bin/xenstore-$tool"
    cp "$tree/xenstore-utils/usr/bin/xenstore-$tool" "$1/usr/bin/"
  done
}

finish_root() {
  rm -rf "$1/$multiarch"/{gconv,audit} "$1"/usr/lib/{locale,tmpfiles.d,systemd}
  closure "$1"
  # pthread_cancel (libxenstore, xl) opens it by name, so ldd does not tell.
  [[ -e $1/$multiarch/libgcc_s.so.1 ]] || cp -L /lib/x86_64-linux-gnu/libgcc_s.so.1 "$1/$multiarch/"
}

# The kernel without its own compression: under emulation that saves 5 s a boot.
plain_kernel() {
  local offset begins by
  while read -r begins by; do
    for offset in $(LC_ALL=C grep -abo -P "$begins" "$1" | cut -d: -f1 | head -n 4); do
      tail -c "+$((offset + 1))" "$1" | $by -dc 2>/dev/null >"$2" || true
      [[ $(head -c 4 "$2" | tail -c 3) != ELF ]] || break 2
    done
  done <<'END'
\xfd7zXZ\x00 xz
\x02\x21\x4c\x18 lz4
\x28\xb5\x2f\xfd zstd
END
  [[ $(head -c 4 "$2" | tail -c 3) == ELF ]] || die "cannot unpack the kernel $1"
  strip -s "$2"
}

# base_images: $images holds xen, vmlinuz (Dom0's), vmlinux (the guests'), dom0.img and guest.img.
base_images() {
  local hash
  hash=$({ printf '%s\n' "$suite" "${lab_packages[@]}"; cat lib/images.sh guest/*; sha256sum /bin/busybox
    sha256sum /lib/x86_64-linux-gnu/libc.so.6; } | sha256sum | head -c 16)
  images=$cache/images-$hash
  [[ ! -d $images ]] || return 0
  step "building the images of Dom0 and the guests"
  # Other checkouts use theirs; what nobody has used for a week goes.
  find "$cache" -maxdepth 1 -name 'images-*' -mtime +7 -exec rm -rf {} +
  rm -rf "$cache/images.new"
  local new=$cache/images.new
  mkdir -p "$new"
  gcc -O2 -Wall -static -o "$new/lab_shell" guest/lab_shell.c
  gcc -O2 -Wall -o "$new/lab_call" guest/lab_call.c
  dom0_image "$new" && guest_image "$new" || die "building the images failed"
  pack "$new/dom0" >"$new/dom0.img" && pack "$new/guest" >"$new/guest.img"
  gunzip -c "$tree/$xen_package/boot/xen-$xen_version-amd64.gz" >"$new/xen"
  cp "$tree/$kernel_package/boot/vmlinuz-$kernel_version" "$new/vmlinuz"
  plain_kernel "$tree/$guest_kernel_package/boot/vmlinuz-$guest_kernel_version" "$new/vmlinux"
  # What both have already, the payload must not replace.
  comm -12 <(cd "$new/dom0/$multiarch" && printf '%s\n' *.so* | sort) <(cd "$new/guest/$multiarch" && printf '%s\n' *.so* | sort) >"$new/libraries"
  rm -rf "$new/dom0" "$new/guest"
  mv "$new" "$images"
}

# payload: what is under test, from the build tree, with libraries: $run/payload.img.
#   --add FILE[:PATH] adds one's own; a test's line "# programs: a b" adds programs of this machine.
payload() {
  local root=$run/payload file target
  rm -rf "$root"
  mkdir -p "$root"/{etc,usr/bin,"$multiarch"}
  (umask 077; printf '%s\n' "$token" >"$root/etc/lab-token")
  gcc -O2 -Wall -o "$root/usr/bin/grant_probe" probe/grant_probe.c -lxengnttab -lxenevtchn ||
    die "cannot build grant_probe"
  gcc -O2 -Wall -fno-exceptions -fno-rtti -I"$source_dir" -o "$root/usr/bin/peer_probe" \
    probe/peer_probe.cc "$source_dir/discovery/peer_table.cc" || die "cannot build peer_probe"
  local probe
  for probe in pair_probe hostile_probe; do
    g++ -std=gnu++17 -O2 -Wall -I"$source_dir" -o "$root/usr/bin/$probe" "probe/$probe.cc" \
      "$source_dir"/channel/{transport,xen/xen_transport,xen/xen_calls,local/local_transport}.cc \
      -lxengnttab -lxenevtchn || die "cannot build $probe"
  done
  gcc -O2 -Wall -o "$root/usr/bin/stream_fork" probe/stream_fork.c || die "cannot build stream_fork"
  g++ -std=gnu++17 -O2 -Wall -pthread -o "$root/usr/bin/moving_load" probe/moving_load.cc || die "cannot build moving_load"
  gcc -O2 -Wall -o "$root/usr/bin/move_relay" probe/move_relay.c || die "cannot build move_relay"
  # What is under test comes as an administrator would have it: installed.
  DESTDIR=$root cmake --install "$build" --prefix /usr >"$run/logs/install.log" 2>&1 ||
    die "cmake --install failed: $(tail -n 3 "$run/logs/install.log")"
  rm -rf "$root"/usr/{include,share,lib32,lib/i386-linux-gnu}
  strip -g "$root/$multiarch/libxenloop.so" "$root"/usr/bin/xenloop{,d} || die "$build does not install all"
  for file in stream-check xenloop-conformance; do
    [[ ! -e $build/bin/$file ]] || strip -g -o "$root/usr/bin/$file" "$build/bin/$file"
  done
  for file in "${additions[@]}"; do
    target=usr/bin/$(basename "${file%%:*}")
    [[ $file != *:* ]] || target=${file#*:}
    mkdir -p "$(dirname "$root/$target")"
    cp -L "${file%%:*}" "$root/$target"
    [[ $(head -c 4 "$root/$target" | tail -c 3) != ELF ]] || strip -g "$root/$target" 2>/dev/null || true
  done
  for file in "${programs[@]}"; do
    target=$(PATH=$PATH:/usr/sbin:/sbin command -v "$file") || continue      # the test itself tells
    [[ $file != /* ]] || { mkdir -p "$root${file%/*}"; cp -L "$file" "$root$file"; continue; }
    cp -L "$target" "$root/usr/bin/"
  done
  closure "$root"
  (cd "$root/$multiarch" && xargs rm -f <"$images/libraries") && rm -f "$root"/usr/lib64/ld-linux*
  (cd "$root" && find . -mindepth 1 -print0 | cpio -0 -o -H newc --quiet -R 0:0 | gzip -1) >"$run/payload.img"
  mkdir -p "$run/share/console"
  # Plain for the guests: the toolstack itself unpacks a compressed image, and of two the first only.
  gzip -dc "$images/guest.img" "$run/payload.img" >"$run/share/guest.img"
  cat "$images/dom0.img" "$run/payload.img" >"$run/dom0.img"
  cp "$images/vmlinux" "$run/share/vmlinux"
}
