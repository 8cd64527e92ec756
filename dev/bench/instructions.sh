#!/bin/sh
# Instructions that one event costs between the socket and the producer, counted by valgrind: no clock, no noise.
set -eu
command -v valgrind >/dev/null || { echo "instructions are not counted: valgrind is not installed"; exit 0; }
program=${1:?the example path, built with --release}
events=20000

count() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
		sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# What making the stream costs, and the start, goes off: twice as many events less as many.
whole=$(($(count events $((2 * events))) - $(count events "$events")))
made=$(($(count stream $((2 * events))) - $(count stream "$events")))
echo "instructions per event, socket to record and acknowledgement to position: $(((whole - made) / events))"
