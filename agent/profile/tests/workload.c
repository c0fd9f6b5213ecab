// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests sample: `spin` burns CPU in galen_hot_loop, `kernel` burns it in system calls, `brood` runs itself as
 * `brief` again and again, each a process of a tenth of a second.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

__attribute__((noinline)) void galen_hot_loop(void)
{
	for (unsigned long i = 0; i < 1000000; i++)
		sink += i;
}

__attribute__((noinline)) void galen_middle(void)
{
	galen_hot_loop();
	sink++;
}

__attribute__((noinline)) void galen_brief_loop(void)
{
	for (unsigned long i = 0; i < 1000000; i++)
		sink += i;
	sink++;
}

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
	const char *mode = count > 1 ? arguments[1] : "spin";

	if (!strcmp(mode, "spin"))
		for (;;)
			galen_middle();
	if (!strcmp(mode, "kernel")) {
		static char buffer[1 << 20];
		int zero = open("/dev/zero", O_RDONLY);

		for (;;)
			if (read(zero, buffer, sizeof(buffer)) < 0)
				return 1;
	}
	if (!strcmp(mode, "brief"))
		while (cpu_seconds() < 0.1)
			galen_brief_loop();
	if (!strcmp(mode, "brood"))
		for (;;) {
			pid_t child = fork();

			if (child < 0)
				return 1;
			if (!child) {
				execl("/proc/self/exe", "brief", "brief", (char *)NULL);
				_exit(1);
			}
			waitpid(child, NULL, 0);
		}
	return 0;
}
