/*
 * blocked THREADS: that many threads in uninterruptible sleep. Each has a child by vfork, which shares its memory and
 * sleeps; the kernel lets the parent go on only when the child has an image of its own, or is gone. They can be killed.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *wait_for_child(void *unused)
{
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	for (int left = argc > 1 ? atoi(argv[1]) : 1; left > 1; left--)
		if (pthread_create(&thread, &small, wait_for_child, NULL))
			return 1;
	wait_for_child(NULL);
	return 0;
}
