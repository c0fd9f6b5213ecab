/*
 * blocked THREADS: that many threads in uninterruptible sleep. Each has a child by vfork, which shares its memory and
 * sleeps; the kernel lets the parent go on only when the child has an image of its own, or is gone. They can be killed.
 * blocked THREADS quiet: as many that just sleep.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *sleep_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *wait_for_child(void *unused)
{
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sleep_for_ever(NULL);
	}
	return unused;
}

int main(int argc, char **argv)
{
	void *(*thread)(void *) = argc > 2 ? sleep_for_ever : wait_for_child;
	pthread_attr_t small;
	pthread_t id;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	for (int left = argc > 1 ? atoi(argv[1]) : 1; left > 1; left--)
		if (pthread_create(&id, &small, thread, NULL))
			return 1;
	thread(NULL);
	return 0;
}
