/*
 * libparitas: volumes of a redundant block storage engine.
 *
 * This library makes arrays and volumes, as the command `paritas` does (mkfs, volume create), opens them, and reads
 * and writes them, whether members are lost or not.
 *
 * Units. Offsets and lengths are bytes, multiples of 512; multiples of 4096 are faster: a block that is written in
 * part is read first, and keeps its other bytes. Buffers may lie anywhere. Text is UTF-8 and ends with a zero byte;
 * paths are whatever bytes the system takes.
 *
 * Errors. A call answers PARITAS_OK or says what kind of failure it was; what happened, to what, and what to do is
 * told by paritas_message in the same thread. Null pointers where none is allowed, misaligned ones, and ranges
 * outside a volume are PARITAS_INVALID. No exception and no panic leaves this library.
 *
 * Ordering and durability. A write, trim or write of zeros is seen by every read that begins after it was done. It is
 * durable when a flush that began later is done, or with PARITAS_WRITE_FUA when it is done itself; paritas_close
 * makes everything durable. Until then it is in memory, as with a disk that has a write cache. After a crash, of the
 * process too, a volume is a prefix of its history that has everything that was durable. Requests that are in flight
 * at the same time have no order, but each is done before or after each other.
 *
 * Threads. Every function may be called by any thread, with the same handles at the same time. Each open array has a
 * thread of its own, which needs neither signals nor the caller's stack. A process that forks must not use handles of
 * its parent in the child; open after the fork.
 *
 * Lifetimes. What a pointer leads to is there until the call returns, and no other thread changes it meanwhile; the
 * buffer of paritas_queue_read until its completion was given, or its queue freed. Handles are released once, by
 * their own functions, in any order, when no call that uses them is under way: a volume does not need its array's
 * handle, nor a request its volume's.
 */


#ifndef PARITAS_H
#define PARITAS_H

#include <stddef.h>
#include <stdint.h>

/**
 * Open the array to read it: nothing is claimed and nothing is written, so what is found damaged is not healed, and
 * members that came back are not taken back.
 */
#define PARITAS_OPEN_READ_ONLY 1

/**
 * Do all that the array needs while it is open, as a server does: members that came back are taken back, and what
 * lacks redundancy is rebuilt in the background.
 */
#define PARITAS_UPKEEP_BACKGROUND 0

/**
 * Take members back that came back, and rebuild nothing.
 */
#define PARITAS_UPKEEP_ON_DEMAND 1

/**
 * Heal what is met on the way, and do no more.
 */
#define PARITAS_UPKEEP_NOTHING 2

/**
 * Overwrite members that hold something else.
 */
#define PARITAS_CREATE_FORCE 1

/**
 * A write that is durable, with everything accepted before it, when it is done (force unit access).
 */
#define PARITAS_WRITE_FUA 1

/**
 * Requests that one queue may have in flight.
 */
#define PARITAS_QUEUE_DEPTH_MAX 65536

/**
 * What came of a call.
 */
typedef enum {
  /**
   * It was done.
   */
  PARITAS_OK = 0,
  /**
   * The call was wrong: a null pointer, a range outside the volume, an offset or length that is no multiple of
   * 512, an unknown flag. Nothing was done.
   */
  PARITAS_INVALID = 1,
  /**
   * There is no such array or volume.
   */
  PARITAS_NOT_FOUND = 2,
  /**
   * A name or place is already taken.
   */
  PARITAS_EXISTS = 3,
  /**
   * Another process has the array open for writing. Try later.
   */
  PARITAS_BUSY = 4,
  /**
   * What is there is not what it should be, or cannot be done.
   */
  PARITAS_REFUSED = 5,
  /**
   * More is damaged than the volume's redundancy mends. The message names the first lost blocks; they can be read
   * again when they have been written anew. Everything else is served.
   */
  PARITAS_DATA_LOSS = 6,
  /**
   * Durable writes of the volume are lost, or may be, and it is not known which blocks they changed. Flushes fail
   * until `paritas clear` acknowledges it.
   */
  PARITAS_LOST_WRITES = 7,
  /**
   * The array's metadata is damaged beyond redundancy.
   */
  PARITAS_CORRUPT = 8,
  /**
   * There is no room for new data. Trim, delete, or add members.
   */
  PARITAS_NO_SPACE = 9,
  /**
   * The array serves reads only: too few of its members are there, or it was opened so.
   */
  PARITAS_READ_ONLY = 10,
  /**
   * A member failed, and redundancy could not hide it.
   */
  PARITAS_IO = 11,
  /**
   * The array was closed.
   */
  PARITAS_CLOSED = 12,
  /**
   * The queue holds as many requests as it has room for. Wait for completions, then submit again.
   */
  PARITAS_FULL = 13,
  /**
   * A defect of this library. What was under way may have been done or not; other calls may go on.
   */
  PARITAS_DEFECT = 14,
} paritas_code;

/**
 * How an array is.
 */
typedef enum {
  /**
   * Every member is in full use, and all data has its full redundancy.
   */
  PARITAS_CONDITION_HEALTHY = 0,
  /**
   * Everything can be read and written, but some data has less redundancy than its scheme.
   */
  PARITAS_CONDITION_DEGRADED = 1,
  /**
   * Some data is lost; all else is served.
   */
  PARITAS_CONDITION_DAMAGED = 2,
  /**
   * The array cannot be written.
   */
  PARITAS_CONDITION_FAILED = 3,
} paritas_condition;

/**
 * An open array.
 */
typedef struct paritas_array paritas_array;

/**
 * Requests to volumes, of one array or several, and their completions.
 */
typedef struct paritas_queue paritas_queue;

/**
 * A volume of an open array.
 */
typedef struct paritas_volume paritas_volume;

/**
 * How an array is to be opened. All zeros are the defaults.
 */
typedef struct {
  /**
   * 0 or PARITAS_OPEN_READ_ONLY.
   */
  uint32_t flags;
  /**
   * One of PARITAS_UPKEEP_...
   */
  int upkeep;
  /**
   * The array's name, where a directory holds several; else null.
   */
  const char *name;
  /**
   * Bytes of accepted writes that may wait in memory; 0 for the default, 128 MiB.
   */
  uint64_t write_buffer;
  /**
   * Bytes of the volumes' maps that are kept in memory; 0 for the default, 256 MiB.
   */
  uint64_t map_cache;
} paritas_options;

/**
 * How an array is, in numbers. `paritas status --json` has all of it.
 */
typedef struct {
  /**
   * The worst of what follows.
   */
  paritas_condition condition;
  /**
   * Members in the member table.
   */
  uint32_t members;
  /**
   * Those of them that are in full use.
   */
  uint32_t members_in_use;
  /**
   * Volumes.
   */
  uint32_t volumes;
  /**
   * Entries in the list of what is lost.
   */
  uint64_t damages;
  /**
   * Bytes of members that rebuilds and scrubs under way have done, and that they have to do, an estimate.
   */
  uint64_t work_done;
  /**
   * See work_done.
   */
  uint64_t work_total;
  /**
   * Blocks that were reconstructed for a reader since the array was opened.
   */
  uint64_t reconstructed;
  /**
   * Blocks that were rewritten in place since the array was opened.
   */
  uint64_t healed;
} paritas_status;

/**
 * A volume in a list.
 */
typedef struct {
  /**
   * Its name: valid until the function that is told about it returns.
   */
  const char *name;
  /**
   * Its bytes.
   */
  uint64_t size;
  /**
   * Bytes of it that take space, as of the last checkpoint.
   */
  uint64_t used;
  /**
   * How many more members may be lost, whichever they are. Negative when data is beyond reach already.
   */
  int32_t tolerance;
} paritas_volume_info;

/**
 * How data is spread over members: so many columns of data, and so many of parity, as many of which may be lost. 4
 * and 2 is 4+2, 1 and 1 a mirror, 1 and 2 a mirror of three, 4 and 0 a stripe of four. All zeros are the default.
 */
typedef struct {
  /**
   * Columns of data, 1 to 255.
   */
  uint32_t data;
  /**
   * Columns of parity; 255 columns at most are data and parity.
   */
  uint32_t parity;
} paritas_scheme;

/**
 * What a new array is to be. All zeros are the defaults.
 */
typedef struct {
  /**
   * 0 or PARITAS_CREATE_FORCE.
   */
  uint32_t flags;
  /**
   * The scheme of volumes that name none, and what protects the metadata. The default is a mirror below five
   * members, else two columns of parity beside at most eight of data.
   */
  paritas_scheme scheme;
  /**
   * Bytes of members that are files and do not exist yet or are blank, 64 MiB at least. 0: all members exist, and
   * files and devices are used whole.
   */
  uint64_t size;
  /**
   * Bytes of a chunk, a power of two of 32 KiB to 128 MiB; 0 to choose by the members' sizes.
   */
  uint64_t chunk;
  /**
   * The array's name; null for that of the first member's directory.
   */
  const char *name;
} paritas_create_options;

/**
 * The end of a request.
 */
typedef struct {
  /**
   * What the request was submitted with.
   */
  void *user;
  /**
   * What came of it.
   */
  paritas_code code;
  /**
   * What happened, to what, and what to do; null when it was done. Valid until the thread waits for completions
   * again, or its end.
   */
  const char *message;
} paritas_completion;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, such as "0.1.0".
 */
const char *paritas_version(void);

/**
 * What the calling thread's last call that failed had to say: what happened, to what, and what to do. Empty when
 * none failed. Valid until the thread's next call that fails, or its end.
 */
const char *paritas_message(void);

/**
 * Opens the array whose members lie in the directory `place`, or of which `place` is one. It is recovered first if
 * it was not closed. `options` may be null. `*array` is null on failure.
 *
 * Only one process has an array open for writing at a time (PARITAS_BUSY). An array that lacks members is opened,
 * and says so (paritas_array_status); with too few of them to write it answers PARITAS_READ_ONLY, and can still be
 * opened with the flag PARITAS_OPEN_READ_ONLY.
 */
paritas_code paritas_open(const char *place, const paritas_options *options, paritas_array **array);

/**
 * Makes everything durable, gives the members back, and releases the handle, also on failure: then something that
 * was accepted could not be made durable. Volumes of the array answer PARITAS_CLOSED from here on; their handles are
 * released by their own calls, before or after this one.
 *
 * A process that ends without it is like a power cut: what was flushed is durable.
 */
paritas_code paritas_close(paritas_array *array);

/**
 * Tells how the array is.
 */
paritas_code paritas_array_status(const paritas_array *array, paritas_status *status);

/**
 * Calls `each` for every volume, with `user`, in this thread, before it returns. `each` may call this library, and
 * must return (no longjmp).
 */
paritas_code paritas_array_volumes(const paritas_array *array, void (*each)(const paritas_volume_info *volume,
                                                                            void *user), void *user);

/**
 * Makes an array of `count` files and block devices, whose paths `members` lists, and opens it, with the upkeep
 * PARITAS_UPKEEP_BACKGROUND. `options` may be null: then all members exist, and are used whole. Durable on return.
 * What is refused has changed and created nothing, and `*array` is null then.
 *
 * A member that holds something else is PARITAS_REFUSED, unless the flag PARITAS_CREATE_FORCE lets it be overwritten:
 * then what it held is lost. One that is named twice or smaller than 64 MiB is refused, too.
 */
paritas_code paritas_create(const char *const *members,
                            size_t count,
                            const paritas_create_options *options,
                            paritas_array **array);

/**
 * Makes a volume of `size` bytes, a multiple of 4096, and opens it. It reads as zeros and takes no space. `scheme` may
 * be null: then it has that of the array. Durable on return. `volume` may be null: then it is not opened; else
 * `*volume` is null on failure. A name that is taken is PARITAS_EXISTS.
 */
paritas_code paritas_volume_create(const paritas_array *array,
                                   const char *name,
                                   uint64_t size,
                                   const paritas_scheme *scheme,
                                   paritas_volume **volume);

/**
 * Deletes a volume and everything on it. Durable on return. Its handles answer PARITAS_NOT_FOUND from here on, and
 * are released as ever.
 */
paritas_code paritas_volume_delete(const paritas_array *array, const char *name);

/**
 * Gives a volume another size, a multiple of 4096. What is cut off is lost; what is added reads as zeros. Durable
 * after a flush.
 */
paritas_code paritas_volume_resize(const paritas_volume *volume, uint64_t size);

/**
 * Opens the volume of that name. `*volume` is null on failure.
 */
paritas_code paritas_volume_open(const paritas_array *array, const char *name, paritas_volume **volume);

/**
 * Releases the handle. Nothing is flushed, and requests under way go on. Null is allowed.
 */
void paritas_volume_release(paritas_volume *volume);

/**
 * Tells the volume's bytes.
 */
paritas_code paritas_volume_size(const paritas_volume *volume, uint64_t *size);

/**
 * Reads `length` bytes at `offset`. What was never written, or trimmed, is zeros. On failure the buffer is as it
 * was. Until it returns it takes as much memory as the buffer again; so does a write.
 */
paritas_code paritas_read(const paritas_volume *volume, uint64_t offset, void *buffer, size_t length);

/**
 * Writes `length` bytes at `offset`. Durable after a flush, or on return with the flag PARITAS_WRITE_FUA. A call of
 * up to 1 MiB is one step of the volume's history; a longer one is a sequence of such steps in order of address, and
 * on failure some of them may have been done.
 */
paritas_code paritas_write(const paritas_volume *volume,
                           uint64_t offset,
                           const void *buffer,
                           size_t length,
                           uint32_t flags);

/**
 * Makes everything durable, with full redundancy, that the volume had accepted before this call.
 */
paritas_code paritas_flush(const paritas_volume *volume);

/**
 * Makes a range read as zeros and gives its space free: one step of the history, whatever its length. Durable after
 * a flush.
 */
paritas_code paritas_trim(const paritas_volume *volume, uint64_t offset, uint64_t length);

/**
 * Writes zeros. They take no space: it is paritas_trim, which promises them.
 */
paritas_code paritas_write_zeroes(const paritas_volume *volume, uint64_t offset, uint64_t length);

/**
 * Makes a queue for at most `depth` requests in flight, at least 1 and at most PARITAS_QUEUE_DEPTH_MAX. `*queue` is
 * null on failure.
 */
paritas_code paritas_queue_new(uint32_t depth, paritas_queue **queue);

/**
 * Releases the queue. Requests in flight are forgotten: those that change a volume go on, and nobody learns what
 * came of them; buffers are not touched from here on. Null is allowed.
 */
void paritas_queue_free(paritas_queue *queue);

/**
 * Begins to read, as paritas_read does. The buffer is filled by the call of paritas_queue_wait that gives the
 * completion, and must be there until then; on failure it is as it was.
 */
paritas_code paritas_queue_read(const paritas_queue *queue,
                                const paritas_volume *volume,
                                uint64_t offset,
                                void *buffer,
                                size_t length,
                                void *user);

/**
 * Begins to write, as paritas_write does. The bytes are copied: the buffer is free when this call returns.
 */
paritas_code paritas_queue_write(const paritas_queue *queue,
                                 const paritas_volume *volume,
                                 uint64_t offset,
                                 const void *buffer,
                                 size_t length,
                                 uint32_t flags,
                                 void *user);

/**
 * Begins to flush, as paritas_flush does: writes count of which the completions were given before this call.
 */
paritas_code paritas_queue_flush(const paritas_queue *queue, const paritas_volume *volume, void *user);

/**
 * Begins to trim, as paritas_trim does.
 */
paritas_code paritas_queue_trim(const paritas_queue *queue,
                                const paritas_volume *volume,
                                uint64_t offset,
                                uint64_t length,
                                void *user);

/**
 * Begins to write zeros, as paritas_write_zeroes does.
 */
paritas_code paritas_queue_write_zeroes(const paritas_queue *queue,
                                        const paritas_volume *volume,
                                        uint64_t offset,
                                        uint64_t length,
                                        void *user);

/**
 * Waits until at least `min` requests are done, or all in flight if these are fewer, at most `timeout` milliseconds
 * (a negative one: as long as it takes), then gives at most `max` completions, in the order in which requests were
 * done. `*count` is how many, less than `min` after a timeout or when no more are in flight. With a `min` of 0 it
 * does not wait.
 */
paritas_code paritas_queue_wait(const paritas_queue *queue,
                                paritas_completion *completions,
                                size_t min,
                                size_t max,
                                int timeout,
                                size_t *count);

/**
 * Tells a file descriptor that can be read (poll, epoll) while paritas_queue_wait has completions to give. It is the
 * queue's, to be waited for and neither read nor closed. It may be ready once without a completion: so call
 * paritas_queue_wait with a `min` of 0.
 */
paritas_code paritas_queue_descriptor(const paritas_queue *queue, int *descriptor);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PARITAS_H */
