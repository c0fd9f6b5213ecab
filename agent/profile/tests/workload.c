// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests sample: `spin` burns CPU in galen_hot_loop, `kernel` burns it in system calls, each so long that hardly
 * a sample in thousands finds the program between two, `brood` runs itself as `brief` again and again, each a process of
 * a tenth of a second, `made` runs code that it made and named as runtimes with a compiler do. `library` runs
 * galen_library_loop of the library that the next argument names; `mapped` the code at the second page of the file that
 * it names, whatever else is in there.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
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

static int run_made_code(void)
{
#if defined(__x86_64__)
	static const unsigned char loop[] = { 0xeb, 0xfe };
#elif defined(__aarch64__)
	static const unsigned char loop[] = { 0x00, 0x00, 0x00, 0x14 };
#endif
	char path[64];
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	FILE *map;

	if (code == MAP_FAILED)
		return 1;
	memcpy(code, loop, sizeof(loop));
	__builtin___clear_cache((char *)code, (char *)code + sizeof(loop));
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	map = fopen(path, "w");
	if (!map)
		return 1;
	fprintf(map, "%lx %zx galen_made_code\n", (unsigned long)code, sizeof(loop));
	fclose(map);
	((void (*)(void))code)();
	return 0;
}

static int run_library(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);
	void (*loop)(void);

	if (!library)
		return 1;
	*(void **)&loop = dlsym(library, "galen_library_loop");
	if (!loop)
		return 1;
	for (;;)
		loop();
}

static int run_mapped(const char *path)
{
	int file = open(path, O_RDONLY);
	char *code = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);

	if (code == MAP_FAILED)
		return 1;
	((void (*)(void))(code + 4096))();
	return 0;
}

int main(int count, char **arguments)
{
	const char *mode = count > 1 ? arguments[1] : "spin";

	if (!strcmp(mode, "spin"))
		for (;;)
			galen_middle();
	if (!strcmp(mode, "kernel")) {
		static char buffer[1 << 20];
		static struct iovec again[1024];
		int zero = open("/dev/zero", O_RDONLY);

		for (int i = 0; i < 1024; i++)
			again[i] = (struct iovec){ buffer, sizeof(buffer) };
		for (;;)
			if (readv(zero, again, 1024) < 0)
				return 1;
	}
	if (!strcmp(mode, "brief"))
		while (cpu_seconds() < 0.1)
			galen_brief_loop();
	if (!strcmp(mode, "made"))
		return run_made_code();
	if (!strcmp(mode, "library") && count > 2)
		return run_library(arguments[2]);
	if (!strcmp(mode, "mapped") && count > 2)
		return run_mapped(arguments[2]);
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
