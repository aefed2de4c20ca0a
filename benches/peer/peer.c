/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The peer of the ring benches: libbpf as its documentation uses it. Commands come on standard input, one answer line
 * each on standard output; src/consumer.rs is the other implementation of the same protocol and must do the same work
 * per record.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define KIND_SYSCALL 0x0301
#define KIND_END 0x0f00
#define BUCKETS 20001

/* ABI v1: header and body of a syscall record. */
struct record {
	uint64_t ktime_ns, cgroup_id;
	uint32_t tgid, tid;
	uint16_t kind, cpu;
	uint32_t seq;
	uint64_t enter_ns;
	int64_t ret;
	uint64_t requested;
	int32_t fd;
	uint16_t nr, flags;
};

struct seen {
	uint64_t records, errors;
	uint32_t next;
	int ended;
	/* Delivery delays in microseconds, if asked for. */
	uint32_t *delays;
};

static uint64_t now(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * 1000000000ull + at.tv_nsec;
}

static int on_record(void *context, void *data, size_t size)
{
	struct seen *seen = context;
	const struct record *r = data;
	uint64_t sum;

	if (size != sizeof(*r)) {
		seen->errors++;
		return 0;
	}
	if (r->kind != KIND_SYSCALL) {
		if (r->kind == KIND_END) {
			seen->ended = 1;
			return -1;
		}
		seen->errors++;
		return 0;
	}
	sum = r->ktime_ns ^ r->cgroup_id ^ (r->tgid | (uint64_t)r->tid << 32) ^
	      (r->kind | (uint64_t)r->cpu << 16 | (uint64_t)r->seq << 32) ^ r->enter_ns ^ (uint64_t)r->ret ^ r->requested ^
	      ((uint32_t)r->fd | (uint64_t)r->nr << 32 | (uint64_t)r->flags << 48);
	seen->errors += sum != 0 || r->seq != seen->next;
	seen->next = r->seq + 1;
	seen->records++;
	if (seen->delays) {
		uint64_t us = (now(CLOCK_MONOTONIC) - r->ktime_ns) / 1000;

		seen->delays[us < BUCKETS ? us : BUCKETS - 1]++;
	}
	return 0;
}

/* Looks at the header alone, which is half of `struct record`. */
static int on_header(void *context, void *data, size_t size)
{
	struct seen *seen = context;
	const struct record *r = data;
	uint64_t number = r->seq;

	uint64_t wrong = (r->ktime_ns ^ number) | (r->cgroup_id ^ number * 0x01010101) |
			 ((r->tgid | (uint64_t)r->tid << 32) ^ number * 0x00010001) |
			 (uint16_t)((r->kind ^ KIND_SYSCALL) | r->cpu) | (r->seq ^ seen->next);

	seen->errors += size < 32 || wrong != 0;
	seen->next = r->seq + 1;
	seen->records++;
	return 0;
}

static uint64_t percentile(const struct seen *seen, uint64_t per_mille)
{
	uint64_t left = (seen->records * per_mille + 999) / 1000;

	for (uint64_t us = 0; us < BUCKETS; us++) {
		if (seen->delays[us] >= left)
			return us;
		left -= seen->delays[us];
	}
	return BUCKETS;
}

static struct ring_buffer *open_ring(int fd, ring_buffer_sample_fn on_sample, struct seen *seen)
{
	struct ring_buffer *ring = ring_buffer__new(fd, on_sample, seen, NULL);

	if (!ring) {
		perror("ring_buffer__new");
		exit(1);
	}
	return ring;
}

static void pin(int core)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(core, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus)) {
		perror("sched_setaffinity");
		exit(1);
	}
}

/* Filled on the core `producer`, by this very thread, and drained on the core `consumer`. */
static void drain(int ring_fd, int prog_fd, unsigned cycles, unsigned per_cycle, ring_buffer_sample_fn on_sample,
		  int producer, int consumer)
{
	struct seen seen = {0};
	struct ring_buffer *ring = open_ring(ring_fd, on_sample, &seen);
	char packet[64] = {0};
	uint64_t ns = 0, cpu_ns = 0;

	for (unsigned cycle = 0; cycle < cycles; cycle++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet), .repeat = per_cycle);
		if (producer != consumer)
			pin(producer);
		if (bpf_prog_test_run_opts(prog_fd, &run)) {
			perror("bpf_prog_test_run");
			exit(1);
		}
		if (producer != consumer)
			pin(consumer);
		uint64_t cpu_from = now(CLOCK_THREAD_CPUTIME_ID), from = now(CLOCK_MONOTONIC);
		ring_buffer__consume(ring);
		ns += now(CLOCK_MONOTONIC) - from;
		cpu_ns += now(CLOCK_THREAD_CPUTIME_ID) - cpu_from;
	}
	ring_buffer__free(ring);
	printf("records %lu errors %lu ns %lu cpu_ns %lu p50_us 0 p99_us 0\n", seen.records, seen.errors, ns, cpu_ns);
}

static void sustained(int ring_fd, int with_delays)
{
	struct seen seen = {.delays = with_delays ? calloc(BUCKETS, sizeof(uint32_t)) : NULL};
	struct ring_buffer *ring = open_ring(ring_fd, on_record, &seen);

	printf("ready\n");
	fflush(stdout);
	uint64_t cpu_from = now(CLOCK_PROCESS_CPUTIME_ID), from = now(CLOCK_MONOTONIC);
	while (ring_buffer__poll(ring, -1) >= 0)
		;
	uint64_t ns = now(CLOCK_MONOTONIC) - from, cpu_ns = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
	printf("records %lu errors %lu ns %lu cpu_ns %lu p50_us %lu p99_us %lu\n", seen.records, seen.errors, ns, cpu_ns,
	       with_delays ? percentile(&seen, 500) : 0, with_delays ? percentile(&seen, 990) : 0);
	ring_buffer__free(ring);
	free(seen.delays);
}

/* lines.rs: serde_json is no C. It ends with the run and says what it did. */
void lines(int ring_fd, const char *to);

int peer_main(int argc, char **argv)
{
	char line[128], to[64];
	unsigned a, b, c;

	if (argc != 5) {
		fprintf(stderr, "usage: %s CORE RING_FD READERS_FD PROGRAM_FD\n", argv[0]);
		return 2;
	}
	int core = atoi(argv[1]), ring_fd = atoi(argv[2]), prog_fd = atoi(argv[4]);

	pin(core);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "resident %u %u", &a, &b) == 2)
			drain(ring_fd, prog_fd, a, b, on_record, core, core);
		else if (sscanf(line, "routed %u %u %u", &a, &b, &c) == 3)
			drain(ring_fd, prog_fd, a, b, on_header, c, core);
		else if (sscanf(line, "sustained %u", &a) == 1)
			sustained(ring_fd, a);
		else if (sscanf(line, "lines %63s", to) == 1)
			lines(ring_fd, to);
		else if (!strncmp(line, "version", 7))
			printf("libbpf %s\n", libbpf_version_string());
		else
			return 2;
		fflush(stdout);
	}
	return 0;
}
