# A disk of one's own: made, held while the standard input is open, then undone, whatever became of who made it.
#
#   sh disk.sh FILE BYTES_A_SECOND MOUNT_POINT FROZEN [CGROUP]…
#
# FILE is its backing file. A loop device on a loop device on it: the lower one is slowed down, which the upper one sees
# as a disk does. BYTES_A_SECOND 0: as fast as it is. With MOUNT_POINT there is an ext4 on it, frozen if FROZEN is `yes`.
# CGROUP: folders for which it is slow. Says its name when all is there.
set -eu
trap '' HUP INT TERM
file=$1 speed=$2 mount_point=$3 frozen=$4
shift 4
lower='' upper='' number=''

slow() { # FOR_V1 FOR_V2 FOLDER…
  v1=$1 v2=$2
  shift 2
  for folder; do
    for kind in read write; do
      limit=$folder/blkio.throttle.${kind}_bps_device
      [ ! -e "$limit" ] || echo "$number $v1" >"$limit"
    done
    [ ! -e "$folder/io.max" ] || echo "$number rbps=$v2 wbps=$v2" >"$folder/io.max"
  done
}

undo() {
  set +e
  exec 2>/dev/null
  [ "$frozen" != yes ] || fsfreeze --unfreeze "$mount_point"
  [ "$speed" = 0 ] || slow 0 max "$@"
  [ -z "$mount_point" ] || umount --lazy "$mount_point"
  # Those in use go with their last user.
  [ -z "$upper" ] || losetup --detach "$upper"
  [ -z "$lower" ] || losetup --detach "$lower"
}
trap 'undo "$@"' EXIT

lower=$(losetup --find --show "$file")
upper=$(losetup --find --show --direct-io=on "$lower")
number=$(cat "/sys/block/${lower#/dev/}/dev")
if [ -n "$mount_point" ]; then
  mkfs.ext4 -q "$upper"
  mount -o noatime "$upper" "$mount_point"
fi
[ "$speed" = 0 ] || slow "$speed" "$speed" "$@"
[ "$frozen" != yes ] || fsfreeze --freeze "$mount_point"
echo "$upper"
read -r _ || :
