/* qfx: quantized models of .qfx files, from C99 and all that can call it.
 *
 *   qfx_model* model = NULL;
 *   if (qfx_open("m.qfx", NULL, &model) != QFX_OK) { fprintf(stderr, "%s\n", qfx_error()); return 1; }
 *   const int64_t sizes[] = {1, 3, 224, 224};
 *   const qfx_tensor image = {pixels, QFX_FLOAT32, 4, sizes, NULL};
 *   const qfx_buffer scores = {memory, 1000 * sizeof(float)};
 *   if (qfx_run(model, &image, 1, &scores, 1) != QFX_OK) ...
 *   qfx_close(model);
 *
 * Files are what qfx.save(model, path, serving=True) writes in Python. Every byte of one is checked when it is opened.
 *
 * Threads: every function may be called from many threads at once, also for one model, but for those that say other.
 * Texts: UTF-8, ending in a zero; whoever gives a pointer keeps the memory, and what a model gives lives as long as it.
 * Errors: a function that can fail gives a status, or NULL; qfx_error() says what went wrong, why, and what to do.
 * Growth: later versions add functions, statuses and dtypes, and fields at the ends of structs. Clear those that a
 * caller fills (or use the initializers here), and never copy by size those that a model gives. */
#ifndef QFX_H
#define QFX_H
/* NOLINTBEGIN(modernize-*): this is C. */

#include <stddef.h>
#include <stdint.h>

#define QFX_VERSION_MAJOR 0
#define QFX_VERSION_MINOR 1
#define QFX_VERSION_PATCH 0
/* One number that grows with the version: 10203 is 1.2.3. */
#define QFX_VERSION (QFX_VERSION_MAJOR * 10000 + QFX_VERSION_MINOR * 100 + QFX_VERSION_PATCH)

#if defined(__GNUC__)
#define QFX_API __attribute__((visibility("default")))
#else
#define QFX_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- versions and errors */

/* QFX_VERSION of the library, which may be newer than this header; and the same as a text: "1.2.3". */
QFX_API int32_t qfx_version(void);
QFX_API const char* qfx_version_text(void);

typedef enum qfx_status {
  QFX_OK = 0,
  QFX_ERROR_ARGUMENT = 1, /* a call that this header forbids: no pointer, a buffer that is too small, no such level */
  QFX_ERROR_FILE = 2,     /* can't be read, is none, damaged, of another version, or torch runs a part of the model */
  QFX_ERROR_PROGRAM = 3,  /* the file is whole, but what it holds makes no sense here */
  QFX_ERROR_INPUT = 4,    /* inputs that the model can't take: dtypes, shapes, indices without a row in a table */
  QFX_ERROR_LIMIT = 5,    /* more memory or multiplications than the options allow */
  QFX_ERROR_MEMORY = 6,   /* there is not enough memory */
  QFX_ERROR_INTERNAL = 7  /* a bug of qfx */
} qfx_status;

/* What the last call of this thread that failed says, in sentences; "" before one fails. Valid until the next call of
 * this thread that fails. */
QFX_API const char* qfx_error(void);

/* ---------------------------------------------------------------- models */

typedef struct qfx_model qfx_model;

typedef struct qfx_options {
  size_t size;           /* sizeof(qfx_options) */
  const char* isa;       /* the instruction set level to run on, such as "avx2"; NULL: what the environment variable
                            QFX_ISA names, or else the best of this CPU */
  uint64_t max_memory;   /* bytes that weights, working memory and outputs of a call may take; 0: any number */
  uint64_t max_products; /* multiplications of integers that a call may take; 0: any number */
  int32_t threads;       /* as qfx_set_threads */
} qfx_options;

/* qfx_options options = QFX_OPTIONS; and then what differs. */
#define QFX_OPTIONS {sizeof(qfx_options), NULL, 0, 0, 0}

/* The model of a file. options: NULL for the above. A file that is open must not be cut short: write a new one beside
 * it and rename it. *model is NULL if it fails. */
QFX_API qfx_status qfx_open(const char* path, const qfx_options* options, qfx_model** model);

/* The model of a file's bytes, which stay as they are until the model is closed. */
QFX_API qfx_status qfx_open_memory(const void* bytes, size_t size, const qfx_options* options, qfx_model** model);

/* Gives back what the model holds. No call of it may be running. NULL: nothing happens. */
QFX_API void qfx_close(qfx_model* model);

/* At most so many threads run a call from now on; 0 (and what a model begins with): as many as physical cores. The
 * results are the same bits with any number. */
QFX_API qfx_status qfx_set_threads(qfx_model* model, int32_t threads);
QFX_API int32_t qfx_threads(const qfx_model* model);

/* The level that the kernels were chosen for. */
QFX_API const char* qfx_isa(const qfx_model* model);

/* What qfx.save was given to say beside the model: a JSON object, "{}" if nothing. */
QFX_API const char* qfx_metadata(const qfx_model* model);

/* How Python nests the outputs: JSON; a number is an output, else ["tuple" | "list" | "dict" | "value", content]. */
QFX_API const char* qfx_structure(const qfx_model* model);

/* ---------------------------------------------------------------- inputs and outputs */

typedef enum qfx_dtype {
  QFX_UINT8 = 0,
  QFX_INT8 = 1,
  QFX_INT32 = 2,
  QFX_FLOAT32 = 3,
  QFX_FLOAT16 = 4,
  QFX_BFLOAT16 = 5,
  QFX_INT64 = 8,
  QFX_BOOL = 9 /* a byte, 0 or 1 */
} qfx_dtype;

/* numpy's and torch's name, and the bytes of an element; NULL and 0 for what is no dtype of inputs and outputs. */
QFX_API const char* qfx_dtype_name(qfx_dtype dtype);
QFX_API size_t qfx_dtype_size(qfx_dtype dtype);

/* What an input or output is. */
typedef struct qfx_value {
  const char* name; /* of the argument of the Python model's forward, or of the part of its result */
  qfx_dtype dtype;
  int32_t rank;
  const int64_t* sizes;          /* `rank` of them; -1: calls choose it */
  const char* const* size_names; /* what the sizes that calls choose are called, equal ones alike; NULL: a number */
} qfx_value;

QFX_API size_t qfx_input_count(const qfx_model* model);
QFX_API size_t qfx_output_count(const qfx_model* model);

/* NULL for an index that there is none of. */
QFX_API const qfx_value* qfx_input(const qfx_model* model, size_t index);
QFX_API const qfx_value* qfx_output(const qfx_model* model, size_t index);

/* ---------------------------------------------------------------- calls */

/* An array of the caller's that is read. The data of a model's inputs are aligned as their elements are. */
typedef struct qfx_tensor {
  const void* data; /* the first element; may be NULL if there are no elements */
  qfx_dtype dtype;
  int32_t rank;
  const int64_t* sizes; /* `rank` of them; may be NULL if that is 0 */
  const int64_t*
      strides; /* elements from one to the next of each dim, of any sign; NULL: dense, the last dim fastest */
} qfx_tensor;

/* Memory of the caller's that a dense output is written to. */
typedef struct qfx_buffer {
  void* data;
  size_t bytes; /* as many as the output has, or more */
} qfx_buffer;

/* The sizes of an output, as many as its rank, for inputs of these shapes, whose data are not looked at. */
QFX_API qfx_status qfx_output_sizes(qfx_model* model, const qfx_tensor* inputs, size_t input_count, size_t output,
                                    int64_t* sizes);

/* One call: one tensor an input and one buffer an output, in the model's order, none of which overlap. If it fails,
 * what the buffers hold is undefined. */
QFX_API qfx_status qfx_run(qfx_model* model, const qfx_tensor* inputs, size_t input_count, const qfx_buffer* outputs,
                           size_t output_count);

/* One call whose outputs the library allocates. They outlive the model. *results is NULL if it fails. */
typedef struct qfx_results qfx_results;
QFX_API qfx_status qfx_run_new(qfx_model* model, const qfx_tensor* inputs, size_t input_count, qfx_results** results);

/* An output of such a call, dense, aligned to 64 bytes. NULL for an index that there is none of. */
QFX_API const qfx_tensor* qfx_result(const qfx_results* results, size_t index);

/* NULL: nothing happens. */
QFX_API void qfx_results_free(qfx_results* results);

/* ---------------------------------------------------------------- hooks */

/* What a thread pool of the caller's is given to run. */
typedef void (*qfx_body)(void* context, int32_t thread, int32_t threads);

/* Chooses a number n from 1 to `threads`, calls body(context, i, n) once for each i below n, and returns when all of
 * them have. All n calls must run AT THE SAME TIME, each on a thread of its own (the calling one may be one of them):
 * they wait for each other, so a call that is queued behind another waits for ever. A pool that has fewer threads free
 * chooses a smaller n; 1 is always right. It is called from every thread that runs a model, and must not throw or jump
 * out. */
typedef void (*qfx_parallel)(void* pool, int32_t threads, qfx_body body, void* context);

/* All models of the process run on this pool from now on; NULL: on that of the library, which begins the same way. For
 * moments at which no model runs. */
QFX_API void qfx_set_thread_pool(qfx_parallel parallel, void* pool);

/* At least `bytes` bytes at a multiple of `alignment`, a power of two; NULL if there are none. `release` is called once
 * for each, with the bytes that were asked for, on whatever thread. Neither may throw or jump out. */
typedef void* (*qfx_allocate)(void* allocator, size_t bytes, size_t alignment);
typedef void (*qfx_release)(void* allocator, void* memory, size_t bytes);

/* The memory that calls work in and that results lie in comes from here from now on; NULL, NULL, NULL: from the
 * library, which begins the same way. Each piece goes back to whom it came from. Packed weights, plans and texts are
 * no part of it. */
QFX_API qfx_status qfx_set_allocator(qfx_allocate allocate, qfx_release release, void* allocator);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-*) */
#endif /* QFX_H */
