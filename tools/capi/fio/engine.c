/*
 * An engine for fio: jobs read and write a volume of an array through libparitas.
 *
 *     fio --ioengine=external:engine.so --array=PLACE --volume=NAME --name=job --rw=randwrite --iodepth=32
 *
 * Options of its own: `array`, where the members are, and `volume`. Jobs run as threads of one process, because one
 * process alone may have an array open for writing; each job has a queue, and all jobs of an array share its handle.
 * sync=1 makes every write durable before it is done (FUA), fsync=N flushes, rw=trim trims.
 *
 * Built against the headers of the very fio that loads it (tests/fio does so): what they declare is what fio lays out.
 */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fio.h"
#include "optgroup.h"

#include <paritas.h>

struct paritas_job_options {
	void *pad; /* fio takes an option at offset 0 for none */
	char *array;
	char *volume;
};

static struct fio_option options[] = {
	{
		.name = "array",
		.lname = "array",
		.type = FIO_OPT_STR_STORE,
		.off1 = offsetof(struct paritas_job_options, array),
		.help = "Directory of the array's members, or any one of them",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "volume",
		.lname = "volume",
		.type = FIO_OPT_STR_STORE,
		.off1 = offsetof(struct paritas_job_options, volume),
		.help = "Name of the volume",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{ .name = NULL },
};

/* An open array, shared by jobs. */
struct shared_array {
	struct shared_array *next;
	char *place;
	paritas_array *array;
	unsigned jobs;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared_array *arrays;

/* A job's part. */
struct job {
	struct shared_array *shared;
	paritas_volume *volume;
	paritas_queue *queue;
	paritas_completion *done;
};

static int error_number(paritas_code code)
{
	switch (code) {
	case PARITAS_OK:
		return 0;
	case PARITAS_INVALID:
		return EINVAL;
	case PARITAS_NOT_FOUND:
		return ENOENT;
	case PARITAS_EXISTS:
		return EEXIST;
	case PARITAS_BUSY:
	case PARITAS_FULL:
		return EBUSY;
	case PARITAS_REFUSED:
		return EPERM;
	case PARITAS_NO_SPACE:
		return ENOSPC;
	case PARITAS_READ_ONLY:
		return EROFS;
	case PARITAS_CLOSED:
		return EBADF;
	default:
		return EIO;
	}
}

static void complain(const char *what)
{
	log_err("paritas: %s: %s\n", what, paritas_message());
}

/* The array at a place, opened by the first job that asks. */
static struct shared_array *array_open(const char *place)
{
	struct shared_array *shared;

	pthread_mutex_lock(&lock);
	for (shared = arrays; shared; shared = shared->next)
		if (!strcmp(shared->place, place))
			break;
	if (!shared) {
		shared = calloc(1, sizeof(*shared));
		if (paritas_open(place, NULL, &shared->array) != PARITAS_OK) {
			complain(place);
			free(shared);
			shared = NULL;
		} else {
			shared->place = strdup(place);
			shared->next = arrays;
			arrays = shared;
		}
	}
	if (shared)
		shared->jobs++;
	pthread_mutex_unlock(&lock);
	return shared;
}

/* Closed by the last job that leaves it: then everything is durable. */
static void array_leave(struct shared_array *shared)
{
	struct shared_array **link;

	pthread_mutex_lock(&lock);
	if (--shared->jobs == 0) {
		for (link = &arrays; *link != shared; link = &(*link)->next)
			;
		*link = shared->next;
		if (paritas_close(shared->array) != PARITAS_OK)
			complain(shared->place);
		free(shared->place);
		free(shared);
	}
	pthread_mutex_unlock(&lock);
}

static void engine_cleanup(struct thread_data *td)
{
	struct job *job = td->io_ops_data;

	if (!job)
		return;
	td->io_ops_data = NULL;
	paritas_queue_free(job->queue);
	paritas_volume_release(job->volume);
	if (job->shared)
		array_leave(job->shared);
	free(job->done);
	free(job);
}

/* fio calls this for each job in its first thread, before any begins: the size of the volume must be known then. */
static int engine_setup(struct thread_data *td)
{
	struct paritas_job_options *chosen = td->eo;
	struct job *job;
	uint64_t size;

	if (!chosen->array || !chosen->volume) {
		log_err("paritas: the options array and volume say what is read and written\n");
		return 1;
	}
	/* Threads of a process do not outlive a fork, and the array has one. */
	td->o.use_thread = 1;
	if (td->io_ops_data)
		return 0;
	job = calloc(1, sizeof(*job));
	td->io_ops_data = job;
	job->done = calloc(td->o.iodepth, sizeof(*job->done));
	job->shared = array_open(chosen->array);
	if (!job->shared)
		goto failed;
	if (paritas_volume_open(job->shared->array, chosen->volume, &job->volume) != PARITAS_OK ||
	    paritas_volume_size(job->volume, &size) != PARITAS_OK ||
	    paritas_queue_new(td->o.iodepth, &job->queue) != PARITAS_OK) {
		complain(chosen->volume);
		goto failed;
	}
	if (!td->files_index) {
		add_file(td, td->o.filename ? td->o.filename : chosen->volume, 0, 0);
		td->o.nr_files = td->o.nr_files ? td->o.nr_files : 1;
		td->o.open_files++;
	}
	td->files[0]->real_file_size = size;
	return 0;

failed:
	engine_cleanup(td);
	return 1;
}

/* A volume is no file: there is nothing to open, nothing to close, and no page cache. */
static int engine_file(struct thread_data *td, struct fio_file *file)
{
	return 0;
}

static enum fio_q_status engine_queue(struct thread_data *td, struct io_u *io_u)
{
	struct job *job = td->io_ops_data;
	paritas_code code;

	fio_ro_check(td, io_u);
	switch (io_u->ddir) {
	case DDIR_READ:
		code = paritas_queue_read(job->queue, job->volume, io_u->offset, io_u->xfer_buf, io_u->xfer_buflen, io_u);
		break;
	case DDIR_WRITE:
		code = paritas_queue_write(job->queue, job->volume, io_u->offset, io_u->xfer_buf, io_u->xfer_buflen,
					   td->o.sync_io ? PARITAS_WRITE_FUA : 0, io_u);
		break;
	case DDIR_TRIM:
		code = paritas_queue_trim(job->queue, job->volume, io_u->offset, io_u->xfer_buflen, io_u);
		break;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
		code = paritas_queue_flush(job->queue, job->volume, io_u);
		break;
	default:
		io_u->error = EINVAL;
		return FIO_Q_COMPLETED;
	}
	if (code == PARITAS_OK)
		return FIO_Q_QUEUED;
	if (code == PARITAS_FULL)
		return FIO_Q_BUSY;
	complain("a request");
	io_u->error = error_number(code);
	return FIO_Q_COMPLETED;
}

static int engine_getevents(struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *limit)
{
	struct job *job = td->io_ops_data;
	int timeout = limit ? (int)(limit->tv_sec * 1000 + (limit->tv_nsec + 999999) / 1000000) : -1;
	size_t count;

	if (max > td->o.iodepth)
		max = td->o.iodepth;
	if (paritas_queue_wait(job->queue, job->done, min, max, timeout, &count) != PARITAS_OK) {
		complain("waiting for requests");
		return -EIO;
	}
	return (int)count;
}

static struct io_u *engine_event(struct thread_data *td, int event)
{
	struct job *job = td->io_ops_data;
	paritas_completion *done = &job->done[event];
	struct io_u *io_u = done->user;

	if (done->code != PARITAS_OK)
		log_err("paritas: a request failed: %s\n", done->message);
	io_u->error = error_number(done->code);
	io_u->resid = 0;
	return io_u;
}

struct ioengine_ops ioengine = {
	.name = "paritas",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NODISKUTIL | FIO_RAWIO,
	.setup = engine_setup,
	.queue = engine_queue,
	.getevents = engine_getevents,
	.event = engine_event,
	.cleanup = engine_cleanup,
	.open_file = engine_file,
	.close_file = engine_file,
	.invalidate = engine_file,
	.options = options,
	.option_struct_size = sizeof(struct paritas_job_options),
};
