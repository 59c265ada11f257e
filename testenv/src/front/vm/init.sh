#!/bin/sh
# The guest's first process. The host's files, not to be changed, under a layer in memory that takes what is written.
# Serial lines: 0 the kernel's words, 1 and 2 the job's standard output and error, 3 what it reports and its exit status.
b=/bin/busybox
fail() { echo "init: $*"; $b poweroff -f; }
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    [ ! -e "$module" ] || $b insmod "$module" || fail "insert $module"
done
$b mount -t virtiofs -o ro host /host || fail "mount the host's files"
$b mount -t tmpfs layer /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work layer /root || fail "mount the root"
$b mount -t tmpfs run /root/run
$b cp /job /root/run/job
for dir in proc sys dev; do $b mount -o move /$dir /root/$dir; done
$b mkdir -p /root/dev/pts /root/dev/shm "/root/usr/lib/modules/$release"
$b mount -t devpts devpts /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t cgroup2 cgroup /root/sys/fs/cgroup
$b mount -t bpf bpf /root/sys/fs/bpf
$b mount -t tracefs trace /root/sys/kernel/tracing
$b mount -o bind "/root$modules" "/root/usr/lib/modules/$release" || fail "mount the modules"
$b ip link set lo up
# Else "(none)", which is no name for a node.
$b hostname guest
exec $b switch_root /root /bin/sh -c '
    for line in 1 2 3; do busybox stty -F /dev/ttyS$line raw -echo; done
    /bin/sh /run/job </dev/null >/dev/ttyS1 2>/dev/ttyS2
    echo "exit $?" >/dev/ttyS3
    busybox poweroff -f'
