/* What libparitas promises to C, and what it says to callers that are wrong. Arguments: an array, a place with none. */

#include <paritas.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096, DEPTH = 4 };

#define DEMAND(condition)                                                                              \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, paritas_message()); \
            exit(1);                                                                                   \
        }                                                                                              \
    } while (0)

/* A call that is to fail with this code, and to say why. */
#define FAILS(code, call)                          \
    do {                                           \
        DEMAND((call) == (code));                  \
        DEMAND(strlen(paritas_message()) > 10);    \
    } while (0)

#define DONE(call) DEMAND((call) == PARITAS_OK)

static char block[BLOCK], other[BLOCK];

static int is_filled(const char *bytes, size_t length, char with)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != with)
            return 0;
    return 1;
}

static void count_volumes(const paritas_volume_info *volume, void *user)
{
    DEMAND(strcmp(volume->name, "v") == 0 && volume->size == 1 << 20 && volume->tolerance >= 0);
    ++*(int *)user;
}

static void opening(const char *place, const char *nothing)
{
    paritas_array *array = (paritas_array *)block;
    FAILS(PARITAS_NOT_FOUND, paritas_open(nothing, NULL, &array));
    DEMAND(array == NULL);
    FAILS(PARITAS_INVALID, paritas_open(NULL, NULL, &array));
    FAILS(PARITAS_INVALID, paritas_open(place, NULL, NULL));
    paritas_options options = {.flags = 2};
    FAILS(PARITAS_INVALID, paritas_open(place, &options, &array));
    options = (paritas_options){.upkeep = 3};
    FAILS(PARITAS_INVALID, paritas_open(place, &options, &array));
    options = (paritas_options){.name = "\xff"};
    FAILS(PARITAS_INVALID, paritas_open(place, &options, &array));
    options = (paritas_options){.name = "no such array"};
    FAILS(PARITAS_NOT_FOUND, paritas_open(place, &options, &array));
    FAILS(PARITAS_INVALID, paritas_open(place, (paritas_options *)(block + 1), &array));
    FAILS(PARITAS_INVALID, paritas_close(NULL));

    options = (paritas_options){.upkeep = PARITAS_UPKEEP_NOTHING, .write_buffer = 8 << 20, .map_cache = 8 << 20};
    DONE(paritas_open(place, &options, &array));
    paritas_array *second;
    FAILS(PARITAS_BUSY, paritas_open(place, NULL, &second));
    DEMAND(second == NULL);
    DONE(paritas_close(array));
}

static void asking(paritas_array *array)
{
    paritas_status status;
    DONE(paritas_array_status(array, &status));
    DEMAND(status.condition == PARITAS_CONDITION_HEALTHY && status.members == 3 && status.members_in_use == 3);
    DEMAND(status.volumes == 1 && status.damages == 0);
    FAILS(PARITAS_INVALID, paritas_array_status(array, NULL));
    FAILS(PARITAS_INVALID, paritas_array_status(NULL, &status));
    int volumes = 0;
    DONE(paritas_array_volumes(array, count_volumes, &volumes));
    DEMAND(volumes == 1);
    FAILS(PARITAS_INVALID, paritas_array_volumes(array, NULL, NULL));
}

static void blocking(paritas_volume *volume)
{
    uint64_t size = 0;
    DONE(paritas_volume_size(volume, &size));
    DEMAND(size == 1 << 20);
    FAILS(PARITAS_INVALID, paritas_volume_size(volume, NULL));
    FAILS(PARITAS_INVALID, paritas_volume_size(volume, (uint64_t *)(block + 4)));

    memset(block, 1, BLOCK);
    DONE(paritas_write(volume, 0, block, BLOCK, 0));
    DONE(paritas_write(volume, 512, memset(block, 2, BLOCK), 512, PARITAS_WRITE_FUA));
    DONE(paritas_read(volume, 0, other, BLOCK));
    DEMAND(is_filled(other, 512, 1) && is_filled(other + 512, 512, 2) && is_filled(other + 1024, BLOCK - 1024, 1));
    DONE(paritas_trim(volume, 0, 512));
    DONE(paritas_write_zeroes(volume, 1024, 512));
    DONE(paritas_flush(volume));
    DONE(paritas_read(volume, 0, other, 2048));
    DEMAND(is_filled(other, 512, 0) && is_filled(other + 512, 512, 2) && is_filled(other + 1024, 512, 0));
    DEMAND(is_filled(other + 1536, 512, 1));
    /* Nothing at all is something that can be done. */
    DONE(paritas_write(volume, 0, block, 0, 0));
    DONE(paritas_read(volume, 0, other, 0));

    memset(other, 7, BLOCK);
    FAILS(PARITAS_INVALID, paritas_read(volume, 1, other, 512));
    FAILS(PARITAS_INVALID, paritas_read(volume, 0, other, 511));
    FAILS(PARITAS_INVALID, paritas_read(volume, size, other, 512));
    FAILS(PARITAS_INVALID, paritas_read(volume, UINT64_MAX - 511, other, 512));
    FAILS(PARITAS_INVALID, paritas_read(volume, 0, NULL, 512));
    FAILS(PARITAS_INVALID, paritas_read(volume, 0, other, SIZE_MAX & ~(size_t)511));
    FAILS(PARITAS_INVALID, paritas_read(NULL, 0, other, 512));
    DEMAND(is_filled(other, BLOCK, 7));
    FAILS(PARITAS_INVALID, paritas_write(volume, 1, block, 512, 0));
    FAILS(PARITAS_INVALID, paritas_write(volume, size - 512, block, 1024, 0));
    FAILS(PARITAS_INVALID, paritas_write(volume, 0, NULL, 512, 0));
    FAILS(PARITAS_INVALID, paritas_write(volume, 0, block, SIZE_MAX & ~(size_t)511, 0));
    FAILS(PARITAS_INVALID, paritas_write(volume, 0, block, 512, 2));
    FAILS(PARITAS_INVALID, paritas_write(NULL, 0, block, 512, 0));
    FAILS(PARITAS_INVALID, paritas_trim(volume, 0, 1));
    FAILS(PARITAS_INVALID, paritas_write_zeroes(volume, size, 512));
    FAILS(PARITAS_INVALID, paritas_trim(NULL, 0, 512));
    FAILS(PARITAS_INVALID, paritas_write_zeroes(NULL, 0, 512));
    FAILS(PARITAS_INVALID, paritas_flush(NULL));
}

static int is_ready(int descriptor)
{
    struct pollfd events = {.fd = descriptor, .events = POLLIN};
    return poll(&events, 1, 0) == 1;
}

static void queued(paritas_volume *volume)
{
    static char buffers[DEPTH][BLOCK];
    paritas_queue *queue = (paritas_queue *)block;
    FAILS(PARITAS_INVALID, paritas_queue_new(0, &queue));
    DEMAND(queue == NULL);
    FAILS(PARITAS_INVALID, paritas_queue_new(PARITAS_QUEUE_DEPTH_MAX + 1, &queue));
    FAILS(PARITAS_INVALID, paritas_queue_new(1, NULL));
    DONE(paritas_queue_new(DEPTH, &queue));

    /* Nothing is in flight, so there is nothing to wait for. */
    paritas_completion completions[2 * DEPTH];
    size_t count = 9;
    DONE(paritas_queue_wait(queue, completions, 1, DEPTH, -1, &count));
    DEMAND(count == 0);

    /* As many as there is room for, and no more; nothing is lost of those. */
    for (int i = 0; i < DEPTH; i++) {
        memset(block, 10 + i, BLOCK);
        DONE(paritas_queue_write(queue, volume, (uint64_t)i * BLOCK, block, BLOCK, 0, buffers[i]));
    }
    FAILS(PARITAS_FULL, paritas_queue_flush(queue, volume, NULL));
    size_t all = 0;
    while (all < DEPTH) {
        DONE(paritas_queue_wait(queue, completions, 1, 1, -1, &count));
        DEMAND(count == 1 && completions[0].code == PARITAS_OK && completions[0].message == NULL);
        DEMAND((char *)completions[0].user >= buffers[0] && (char *)completions[0].user <= buffers[DEPTH - 1]);
        all += count;
    }

    /* The descriptor says when there is something to give, and no longer. */
    int descriptor = -1;
    DONE(paritas_queue_descriptor(queue, &descriptor));
    DEMAND(!is_ready(descriptor));
    for (int i = 0; i < DEPTH; i++)
        DONE(paritas_queue_read(queue, volume, (uint64_t)i * BLOCK, buffers[i], BLOCK, buffers[i]));
    struct pollfd events = {.fd = descriptor, .events = POLLIN};
    DEMAND(poll(&events, 1, -1) == 1);
    DONE(paritas_queue_wait(queue, completions, DEPTH, 2 * DEPTH, -1, &count));
    DEMAND(count == DEPTH && !is_ready(descriptor));
    for (int i = 0; i < DEPTH; i++)
        DEMAND(is_filled(buffers[i], BLOCK, (char)(10 + i)));

    /* What is wrong with a request is told with its completion; its buffer is as it was. */
    memset(other, 7, BLOCK);
    DONE(paritas_queue_read(queue, volume, 1, other, 512, other));
    DONE(paritas_queue_write(queue, volume, 1 << 20, block, 512, PARITAS_WRITE_FUA, block));
    DONE(paritas_queue_trim(queue, volume, 0, 512, NULL));
    DONE(paritas_queue_write_zeroes(queue, volume, 1024, 512, NULL));
    DONE(paritas_queue_wait(queue, completions, DEPTH, DEPTH, 60000, &count));
    DEMAND(count == DEPTH);
    int failed = 0;
    for (int i = 0; i < DEPTH; i++) {
        if (completions[i].user != NULL) {
            failed++;
            DEMAND(completions[i].code == PARITAS_INVALID && strlen(completions[i].message) > 10);
        } else {
            DEMAND(completions[i].code == PARITAS_OK);
        }
    }
    DEMAND(failed == 2 && is_filled(other, BLOCK, 7));
    DONE(paritas_queue_write(queue, volume, BLOCK, block, 512, PARITAS_WRITE_FUA, NULL));
    DONE(paritas_queue_flush(queue, volume, NULL));
    DONE(paritas_queue_wait(queue, completions, 2, 2, -1, &count));
    DEMAND(count == 2 && completions[0].code == PARITAS_OK && completions[1].code == PARITAS_OK);

    FAILS(PARITAS_INVALID, paritas_queue_read(NULL, volume, 0, other, 512, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_read(queue, NULL, 0, other, 512, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_read(queue, volume, 0, NULL, 512, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_write(queue, volume, 0, NULL, 512, 0, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_write(queue, volume, 0, block, 512, 4, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_flush(queue, NULL, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_trim(NULL, volume, 0, 512, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_write_zeroes(queue, NULL, 0, 512, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_wait(queue, NULL, 0, 1, 0, &count));
    FAILS(PARITAS_INVALID, paritas_queue_wait(queue, completions, 2, 1, 0, &count));
    FAILS(PARITAS_INVALID, paritas_queue_wait(queue, completions, 0, SIZE_MAX, 0, &count));
    FAILS(PARITAS_INVALID, paritas_queue_wait(queue, completions, 0, 1, 0, NULL));
    FAILS(PARITAS_INVALID, paritas_queue_descriptor(queue, NULL));
    DONE(paritas_queue_wait(queue, completions, 1, DEPTH, -1, &count));
    DEMAND(count == 0);

    /* A queue may go before its requests do. */
    memset(other, 7, BLOCK);
    DONE(paritas_queue_read(queue, volume, 0, other, BLOCK, NULL));
    DONE(paritas_queue_write(queue, volume, 2 * BLOCK, memset(block, 77, BLOCK), BLOCK, 0, NULL));
    paritas_queue_free(queue);
    paritas_queue_free(NULL);
    DONE(paritas_flush(volume));
    DEMAND(is_filled(other, BLOCK, 7));
}

static void *elsewhere(void *volume)
{
    DEMAND(strcmp(paritas_message(), "") == 0);
    FAILS(PARITAS_INVALID, paritas_trim(volume, 0, 3));
    return NULL;
}

static void messages(paritas_volume *volume)
{
    FAILS(PARITAS_INVALID, paritas_flush(NULL));
    char before[200];
    snprintf(before, sizeof before, "%s", paritas_message());
    pthread_t thread;
    DEMAND(pthread_create(&thread, NULL, elsewhere, volume) == 0);
    DEMAND(pthread_join(thread, NULL) == 0);
    DEMAND(strcmp(before, paritas_message()) == 0);
}

static void ignore(const paritas_volume_info *volume, void *user)
{
    (void)volume;
    ++*(int *)user;
}

/* Arrays in a folder that has none yet. */
static void making(const char *folder)
{
    char paths[4][512];
    const char *members[4];
    for (int i = 0; i < 4; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/m%d", folder, i);
        members[i] = paths[i];
    }
    paritas_create_options options = {.size = 64 << 20, .scheme = {2, 1}, .chunk = 1 << 20, .name = "made"};
    paritas_array *array = (paritas_array *)block;

    FAILS(PARITAS_INVALID, paritas_create(NULL, 3, &options, &array));
    DEMAND(array == NULL);
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &options, NULL));
    FAILS(PARITAS_INVALID, paritas_create(members, 0, &options, &array));
    FAILS(PARITAS_INVALID, paritas_create(members, SIZE_MAX, &options, &array));
    FAILS(PARITAS_INVALID, paritas_create((const char **)((char *)members + 1), 2, &options, &array));
    FAILS(PARITAS_INVALID, paritas_create(members, 3, (paritas_create_options *)(block + 1), &array));
    const char *none[] = {paths[0], NULL};
    FAILS(PARITAS_INVALID, paritas_create(none, 2, &options, &array));
    /* Nothing is there, and nobody says how large it is to be. */
    FAILS(PARITAS_INVALID, paritas_create(members, 3, NULL, &array));
    paritas_create_options bad = options;
    bad.flags = 2;
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad = options;
    bad.scheme = (paritas_scheme){0, 1};
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad.scheme = (paritas_scheme){256, 0};
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad.scheme = (paritas_scheme){200, 56};
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad.scheme = (paritas_scheme){3, 1};
    FAILS(PARITAS_REFUSED, paritas_create(members, 3, &bad, &array));
    bad = options;
    bad.size = 1 << 20;
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad = options;
    bad.chunk = 12345;
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    bad = options;
    bad.name = "\xff";
    FAILS(PARITAS_INVALID, paritas_create(members, 3, &bad, &array));
    const char *twice[] = {paths[0], paths[0], paths[1]};
    FAILS(PARITAS_REFUSED, paritas_create(twice, 3, &options, &array));
    /* What was refused has made nothing. */
    FILE *file = fopen(paths[0], "r");
    DEMAND(file == NULL);

    DONE(paritas_create(members, 3, &options, &array));
    paritas_status status;
    DONE(paritas_array_status(array, &status));
    DEMAND(status.members == 3 && status.volumes == 0 && status.condition == PARITAS_CONDITION_HEALTHY);

    paritas_volume *volume = (paritas_volume *)block;
    FAILS(PARITAS_INVALID, paritas_volume_create(NULL, "a", 1 << 20, NULL, &volume));
    DEMAND(volume == NULL);
    FAILS(PARITAS_INVALID, paritas_volume_create(array, NULL, 1 << 20, NULL, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "\xff", 1 << 20, NULL, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a/b", 1 << 20, NULL, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a", 1000, NULL, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a", 0, NULL, &volume));
    paritas_scheme scheme = {0, 2};
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a", 1 << 20, &scheme, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a", 1 << 20, (paritas_scheme *)(block + 1), &volume));
    FAILS(PARITAS_INVALID, paritas_volume_create(array, "a", 1 << 20, NULL, (paritas_volume **)(block + 1)));
    scheme = (paritas_scheme){8, 2};
    DEMAND(paritas_volume_create(array, "a", 1 << 20, &scheme, &volume) != PARITAS_OK && volume == NULL);

    scheme = (paritas_scheme){1, 1};
    DONE(paritas_volume_create(array, "a", 1 << 20, &scheme, &volume));
    FAILS(PARITAS_EXISTS, paritas_volume_create(array, "a", 1 << 20, NULL, NULL));
    DONE(paritas_volume_create(array, "b", 1 << 20, NULL, NULL));
    int volumes = 0;
    DONE(paritas_array_volumes(array, ignore, &volumes));
    DEMAND(volumes == 2);
    DONE(paritas_write(volume, (1 << 20) - BLOCK, memset(block, 3, BLOCK), BLOCK, 0));
    DONE(paritas_volume_resize(volume, 2 << 20));
    uint64_t size = 0;
    DONE(paritas_volume_size(volume, &size));
    DEMAND(size == 2 << 20);
    DONE(paritas_read(volume, (1 << 20) - BLOCK, other, BLOCK));
    DEMAND(is_filled(other, BLOCK, 3));
    FAILS(PARITAS_INVALID, paritas_volume_resize(volume, 1));
    FAILS(PARITAS_INVALID, paritas_volume_resize(NULL, BLOCK));
    FAILS(PARITAS_INVALID, paritas_volume_delete(NULL, "a"));
    FAILS(PARITAS_INVALID, paritas_volume_delete(array, NULL));
    FAILS(PARITAS_NOT_FOUND, paritas_volume_delete(array, "c"));
    DONE(paritas_volume_delete(array, "a"));
    FAILS(PARITAS_NOT_FOUND, paritas_read(volume, 0, other, BLOCK));
    paritas_volume_release(volume);
    FAILS(PARITAS_NOT_FOUND, paritas_volume_open(array, "a", &volume));

    /* It is in use; then it holds something, and only force overwrites it. */
    paritas_array *second = NULL;
    bad = options;
    bad.flags = PARITAS_CREATE_FORCE;
    FAILS(PARITAS_BUSY, paritas_create(members, 3, &bad, &second));
    DONE(paritas_close(array));
    paritas_options named = {.name = "made"};
    DONE(paritas_open(folder, &named, &array));
    DONE(paritas_volume_open(array, "b", &volume));
    paritas_volume_release(volume);
    DONE(paritas_close(array));
    FAILS(PARITAS_REFUSED, paritas_create(members, 4, &options, &array));
    DEMAND(array == NULL);
    DONE(paritas_create(members, 3, &bad, &array));
    FAILS(PARITAS_NOT_FOUND, paritas_volume_open(array, "b", &volume));
    DONE(paritas_close(array));
}

int main(int argc, char **argv)
{
    DEMAND(argc == 3);
    DEMAND(strlen(paritas_version()) >= 5 && strcmp(paritas_message(), "") == 0);
    opening(argv[1], argv[2]);
    making(argv[2]);

    paritas_array *array;
    paritas_volume *volume = (paritas_volume *)block;
    DONE(paritas_open(argv[1], NULL, &array));
    asking(array);
    FAILS(PARITAS_NOT_FOUND, paritas_volume_open(array, "w", &volume));
    DEMAND(volume == NULL);
    FAILS(PARITAS_INVALID, paritas_volume_open(array, NULL, &volume));
    FAILS(PARITAS_INVALID, paritas_volume_open(array, "\xff", &volume));
    FAILS(PARITAS_INVALID, paritas_volume_open(NULL, "v", &volume));
    FAILS(PARITAS_INVALID, paritas_volume_open(array, "v", NULL));
    DONE(paritas_volume_open(array, "v", &volume));
    blocking(volume);
    queued(volume);
    messages(volume);

    /* Handles outlast their array. */
    paritas_queue *queue;
    paritas_completion completion;
    size_t count;
    DONE(paritas_queue_new(1, &queue));
    DONE(paritas_close(array));
    FAILS(PARITAS_CLOSED, paritas_read(volume, 0, other, BLOCK));
    DONE(paritas_queue_read(queue, volume, 0, other, BLOCK, other));
    DONE(paritas_queue_wait(queue, &completion, 1, 1, -1, &count));
    DEMAND(count == 1 && completion.code == PARITAS_CLOSED && completion.user == other);
    paritas_queue_free(queue);
    paritas_volume_release(volume);
    paritas_volume_release(NULL);

    paritas_options options = {.flags = PARITAS_OPEN_READ_ONLY};
    DONE(paritas_open(argv[1], &options, &array));
    DONE(paritas_volume_open(array, "v", &volume));
    DONE(paritas_read(volume, 2 * BLOCK, other, BLOCK));
    DEMAND(is_filled(other, BLOCK, 77));
    FAILS(PARITAS_READ_ONLY, paritas_write(volume, 0, block, BLOCK, 0));
    paritas_volume_release(volume);
    DONE(paritas_close(array));
    return 0;
}
