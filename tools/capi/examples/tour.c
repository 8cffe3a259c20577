/*
 * A tour of libparitas: opens an array or makes one, writes and reads one of its volumes by calls that block, then by
 * many requests at a time in a loop of events.
 *
 *     cc tour.c $(pkg-config --cflags --libs libparitas) -o tour
 *     ./tour ARRAY VOLUME                 both made before: paritas mkfs, paritas volume create
 *     ./tour VOLUME MEMBER MEMBER...      makes both, of files of 64 MiB that do not exist yet, or are blank
 */

#include <paritas.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096, REQUESTS = 64, DEPTH = 8 };

/* Ends the program where a call failed. */
static void check(paritas_code code, const char *what)
{
    if (code != PARITAS_OK) {
        fprintf(stderr, "%s: %s (code %d)\n", what, paritas_message(), (int)code);
        exit(1);
    }
}

static void show(const paritas_volume_info *volume, void *user)
{
    (void)user;
    printf("volume %s: %llu bytes, %d more members may be lost\n", volume->name, (unsigned long long)volume->size,
           (int)volume->tolerance);
}

/* A request of the loop: a block that is written, then read. */
struct request {
    unsigned number;
    int is_read;
    unsigned char buffer[BLOCK];
};

static void write_block(paritas_queue *queue, paritas_volume *volume, struct request *request)
{
    memset(request->buffer, (int)(request->number + 1), BLOCK);
    uint64_t offset = (uint64_t)request->number * BLOCK;
    check(paritas_queue_write(queue, volume, offset, request->buffer, BLOCK, 0, request), "submitting a write");
}

/* What follows a request that is done: a write is read back, and what was read is looked at. Answers whether it ends. */
static int go_on(paritas_queue *queue, paritas_volume *volume, struct request *request)
{
    if (!request->is_read) {
        request->is_read = 1;
        memset(request->buffer, 0, BLOCK);
        uint64_t offset = (uint64_t)request->number * BLOCK;
        check(paritas_queue_read(queue, volume, offset, request->buffer, BLOCK, request), "submitting a read");
        return 0;
    }
    for (size_t i = 0; i < BLOCK; i++) {
        if (request->buffer[i] != request->number + 1) {
            fprintf(stderr, "block %u was not read as it was written\n", request->number);
            exit(1);
        }
    }
    return 1;
}

static void many_at_a_time(paritas_volume *volume)
{
    static struct request requests[REQUESTS];
    paritas_queue *queue;
    int descriptor;
    check(paritas_queue_new(DEPTH, &queue), "making a queue");
    check(paritas_queue_descriptor(queue, &descriptor), "asking for the descriptor");

    unsigned begun = 0, done = 0;
    while (done < REQUESTS) {
        while (begun < REQUESTS && begun - done < DEPTH) {
            requests[begun].number = begun;
            write_block(queue, volume, &requests[begun++]);
        }
        /* An event loop waits for its sockets and timers in the same call. */
        struct pollfd events = {.fd = descriptor, .events = POLLIN};
        if (poll(&events, 1, -1) < 0) {
            perror("poll");
            exit(1);
        }
        paritas_completion completions[DEPTH];
        size_t count;
        check(paritas_queue_wait(queue, completions, 0, DEPTH, 0, &count), "waiting");
        for (size_t i = 0; i < count; i++) {
            if (completions[i].code != PARITAS_OK) {
                fprintf(stderr, "a request failed: %s\n", completions[i].message);
                exit(1);
            }
            done += (unsigned)go_on(queue, volume, completions[i].user);
        }
    }

    /* Everything is durable when this one is done. */
    paritas_completion flushed;
    size_t count;
    check(paritas_queue_flush(queue, volume, NULL), "submitting a flush");
    check(paritas_queue_wait(queue, &flushed, 1, 1, -1, &count), "waiting for the flush");
    check(flushed.code, "flushing");
    paritas_queue_free(queue);
}

/* An array of files, as the defaults have it: two are a mirror. */
static paritas_array *make(const char *volume, size_t count, char **members)
{
    paritas_array *array;
    paritas_create_options options = {.size = 64 << 20};
    check(paritas_create((const char *const *)members, count, &options, &array), "making an array");
    check(paritas_volume_create(array, volume, 1 << 20, NULL, NULL), "making a volume");
    return array;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tour ARRAY VOLUME, or tour VOLUME MEMBER MEMBER...\n");
        return 2;
    }
    paritas_array *array;
    paritas_volume *volume;
    paritas_status status;
    uint64_t size;
    const char *name = argc == 3 ? argv[2] : argv[1];
    if (argc == 3)
        check(paritas_open(argv[1], NULL, &array), argv[1]);
    else
        array = make(name, (size_t)argc - 2, argv + 2);
    check(paritas_array_status(array, &status), "asking how it is");
    printf("%s: %u of %u members in use\n", argv[1], (unsigned)status.members_in_use, (unsigned)status.members);
    check(paritas_array_volumes(array, show, NULL), "listing the volumes");
    check(paritas_volume_open(array, name, &volume), name);
    check(paritas_volume_size(volume, &size), "asking for the size");

    char greeting[512] = "written from C", back[512];
    check(paritas_write(volume, size - 512, greeting, sizeof greeting, PARITAS_WRITE_FUA), "writing");
    check(paritas_read(volume, size - 512, back, sizeof back), "reading");
    if (memcmp(greeting, back, sizeof back) != 0) {
        fprintf(stderr, "the greeting was not read as it was written\n");
        return 1;
    }
    many_at_a_time(volume);

    paritas_volume_release(volume);
    check(paritas_close(array), "closing");
    puts("done");
    return 0;
}
