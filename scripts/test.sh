#!/usr/bin/env bash
# Installs what is missing, builds the release and the sanitizer trees and runs every suite.
#
# usage: scripts/test.sh [--quick] [--no-zoo]
#   --quick    no sanitizer build, no client zoo, no kill tests, no benchmark: for the minutes between two edits
#   --no-zoo   everything but the client zoo (which fetches client libraries from package registries)
# CI=true      a suite that cannot run here fails instead of being skipped
# JOBS=n       parallel jobs, default: the number of cores
# Prints a line for each suite (count, seconds), the ten files slowest to compile, and at the end `N passed, N failed`.
# Exit code 0 only if nothing failed. Logs: build/test-logs/<suite>.log
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1

quick='' zoo=1
for argument in "$@"; do
  case $argument in
    --quick) quick=1 ;;
    --no-zoo) zoo='' ;;
    -h|--help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test.sh: unknown argument $argument" >&2; exit 2 ;;
  esac
done
jobs=${JOBS:-$(nproc)}
strict=""
[ "${CI:-}" = true ] && strict=1
logs=build/test-logs
rm -rf "$logs"
mkdir -p "$logs"
passed=0 failed=0 skipped=0
summary=()

record() {  # name passed failed seconds note
  passed=$((passed + $2))
  failed=$((failed + $3))
  summary+=("$(printf '%-14s %5d passed %4d failed %5d s  %s' "$1" "$2" "$3" "$4" "$5")")
  printf '%s\n' "${summary[-1]}"
}

# suite NAME COMMAND...: runs it, reads the last `N passed, N failed` (or ctest's) line of its output; a suite that
# prints none counts as one test.
suite() {
  local name=$1 start=$SECONDS log=$logs/$1.log code good bad
  shift
  echo "== $name"
  timeout -k 10 "${SUITE_SECONDS:-1200}" "$@" > "$log" 2>&1 < /dev/null
  code=$?
  read -r good bad < <(counts "$log")
  if [ -z "${good:-}" ]; then
    if [ $code -eq 0 ]; then good=1 bad=0; else good=0 bad=1; fi
  fi
  if [ $code -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$bad" -ne 0 ]; then
    echo "-- $name failed (exit code $code), what failed and the end of $log:"
    grep -aE '^(FAILED|FAIL|-- .* failed)|\*\*\*Failed' "$log" | head -n 40
    tail -n 60 "$log"
  fi
  # A suite may find out itself that it cannot run here (no loop devices): loudly, and never as a success.
  if [ $code -eq 0 ] && grep -aq '^SKIPPED' "$log"; then
    skipped=$((skipped + 1))
    summary+=("$(printf '%-14s %s' "$name" "$(grep -a -m 1 '^SKIPPED' "$log")")")
    echo "${summary[-1]}"
    return
  fi
  record "$name" "$good" "$bad" $((SECONDS - start)) ''
}

counts() {  # log file -> "passed failed", nothing if it does not say
  python3 - "$1" <<'PYTHON'
import re, sys
text = open(sys.argv[1], errors="replace").read()
found = None
for m in re.finditer(r"(\d+) passed, (\d+) failed", text):
    found = m.group(1), m.group(2)
for m in re.finditer(r"\d+% tests passed, (\d+) tests? failed out of (\d+)", text):
    found = int(m.group(2)) - int(m.group(1)), m.group(1)
if found:
    print(*found)
PYTHON
}

# skip NAME WHY: nothing to run. In CI that is a failure.
skip() {
  if [ -n "$strict" ]; then
    record "$1" 0 1 0 "cannot run: $2"
  else
    skipped=$((skipped + 1))
    summary+=("$(printf '%-14s skipped: %s' "$1" "$2")")
    echo "${summary[-1]}"
  fi
}

# build PRESET: configures once, builds all. The presets' trees are kept between runs.
build() {
  local start=$SECONDS log=$logs/build-$1.log
  echo "== build $1"
  if cmake --preset "$1" > "$log" 2>&1 && cmake --build "build/$1" -j "$jobs" >> "$log" 2>&1; then
    record "build-$1" 1 0 $((SECONDS - start)) ''
    return 0
  fi
  echo "-- build $1 failed, the errors of $log:"
  grep -E -A 12 'error|FAILED|undefined reference' "$log" | head -n 80
  record "build-$1" 0 1 $((SECONDS - start)) ''
  return 1
}

packages=(build test)
scripts/install_packages "${packages[@]}" || { echo "0 passed, 1 failed"; exit 1; }

release='' asan=''
build release && release=1
suite lint scripts/lint
if [ -n "$release" ]; then
  suite ctest-release ctest --test-dir build/release --output-on-failure --timeout 600 -j "$jobs" -LE 'lint|e2e'
fi
if [ -z "$quick" ]; then
  build asan && asan=1
  if [ -n "$asan" ]; then
    ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 \
      suite ctest-asan ctest --test-dir build/asan --output-on-failure --timeout 600 -j "$jobs" -LE 'lint|e2e'
  fi
fi

# run NAME FILE [ARGUMENT...]: a suite that needs the release binary, if it is there.
run() {
  local name=$1 file=$2
  shift 2
  if [ ! -x build/release/millrace ]; then
    skip "$name" 'there is no build/release/millrace'
  elif [ ! -e "$file" ]; then
    skip "$name" "there is no $file"
  elif [ -x "$file" ]; then
    suite "$name" "$file" "$@"
  else
    suite "$name" python3 "$file" "$@"
  fi
}

if [ -n "$release" ]; then
  if [ -z "$quick" ]; then
    suite storage-sim build/release/millrace-storage-sim --seeds 1..10000 --jobs "$jobs"
    suite cluster-sim build/release/millrace-sim --counting 400 --least-seconds 20000 --least-faults 10000 \
      --twice 2 --counters --jobs "$jobs"
    suite same-hashes scripts/same_hashes 1..10
    suite planted-bugs build/release/millrace-storage-sim --plant all --seeds 1..2000 --jobs "$jobs"
  fi
  run recovery tests/e2e/recovery.py
  run partitions tests/e2e/partitions.py
  run durability tests/e2e/durability.py
  run bad-input tests/e2e/bad_input.py
  run cli tests/e2e/cli.py
  run perf tests/e2e/perf.py
  run disk-care tests/e2e/disk_care.py
  run cluster tests/e2e/cluster.py
  if [ -z "$quick" ]; then
    if [ -n "$zoo" ]; then
      run client-zoo scripts/client_zoo
      run messages scripts/check_messages --msgc build/release/msgc --jar build/zoo/java/clients-4/kafka-clients-*.jar
      run messages-self scripts/check_messages --msgc build/release/msgc --self-test \
        --jar build/zoo/java/clients-4/kafka-clients-*.jar
    fi
    # These speak through confluent-kafka, from the zoo's environment.
    scripts/client_zoo --install-only --only confluent > "$logs/kill9-install.log" 2>&1
    if [ -x build/zoo/venv/bin/python ]; then
      suite compaction build/zoo/venv/bin/python tests/e2e/compaction.py
      suite kill9 build/zoo/venv/bin/python tests/e2e/kill9.py
      suite power-cut build/zoo/venv/bin/python tests/e2e/power_cut.py
      suite dev build/zoo/venv/bin/python tests/e2e/dev.py
      suite replication build/zoo/venv/bin/python tests/e2e/replication.py --seconds 40
      suite failover build/zoo/venv/bin/python tests/e2e/failover.py --short
      suite cluster-operation build/zoo/venv/bin/python tests/e2e/cluster_operation.py
      if [ -n "$zoo" ]; then  # whose clients it runs
        suite rolling build/zoo/venv/bin/python tests/e2e/rolling.py rolling --clients java-4,confluent,franz-go,kafkajs --calm 1
      fi
      suite chaos build/zoo/venv/bin/python tests/chaos/run --seed 1 --minutes 5
    else
      skip compaction 'confluent-kafka could not be installed (see kill9-install.log)'
      skip power-cut 'confluent-kafka could not be installed (see kill9-install.log)'
      skip dev 'confluent-kafka could not be installed (see kill9-install.log)'
      skip failover 'confluent-kafka could not be installed (see kill9-install.log)'
      skip replication 'confluent-kafka could not be installed (see kill9-install.log)'
      skip cluster-operation 'confluent-kafka could not be installed (see kill9-install.log)'
      skip chaos 'confluent-kafka could not be installed (see kill9-install.log)'
      skip kill9 'confluent-kafka could not be installed (see kill9-install.log)'
    fi
    run disk-fail tests/e2e/disk_fail.py
    run disk-full tests/e2e/disk_full.py
    # The exchange needs Apache Kafka's own jars, from the zoo's Maven project.
    scripts/client_zoo --install-only --only confluent,java-tools > "$logs/kafka-exchange-install.log" 2>&1
    if [ -x build/zoo/venv/bin/python ] && compgen -G 'build/zoo/java/tools/kafka_2.13-*.jar' > /dev/null; then
      suite kafka-exchange build/zoo/venv/bin/python tests/e2e/kafka_exchange.py
      suite admin-client python3 tests/e2e/admin_client.py
    else
      skip kafka-exchange "Apache Kafka's jars could not be installed (see kafka-exchange-install.log)"
      skip admin-client "Apache Kafka's jars could not be installed (see kafka-exchange-install.log)"
    fi
    run bench-idle bench/idle
    run costs tests/gates/costs.py
  fi
fi

echo
echo "== slowest files to compile (ms; unity files hold several; what ccache answered is fast)"
python3 scripts/slowest_files build/release build/asan
echo
echo "== suites"
printf '%s\n' "${summary[@]}"
echo
if [ "$skipped" -gt 0 ]; then echo "suites skipped: $skipped"; fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
