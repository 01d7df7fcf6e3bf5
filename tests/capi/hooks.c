/* A model on a thread pool and an allocator of this program's: hooks MODEL.qfx BATCH TIMES. Prints what they saw, and
 * fails unless outputs are those of the library's own pool and allocator. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qfx.h"

enum { MOST = 3 };

/* A pool that is asked for `threads`, and gives at most `most`. */
typedef struct Pool {
  int32_t most, regions, largest;
} Pool;

typedef struct Lane {
  qfx_body body;
  void* context;
  int32_t thread, threads;
} Lane;

static void* run_lane(void* given) {
  const Lane* lane = given;
  lane->body(lane->context, lane->thread, lane->threads);
  return NULL;
}

static void run_on_pool(void* given, int32_t threads, qfx_body body, void* context) {
  Pool* pool = given;
  pthread_t others[MOST];
  Lane lanes[MOST];
  const int32_t team = threads < pool->most ? threads : pool->most;
  ++pool->regions;
  if (team > pool->largest) pool->largest = team;
  for (int32_t i = 0; i < team; ++i) {
    lanes[i] = (Lane){body, context, i, team};
    if (i > 0 && pthread_create(&others[i], NULL, run_lane, &lanes[i]) != 0) abort();
  }
  run_lane(&lanes[0]);
  for (int32_t i = 1; i < team; ++i) pthread_join(others[i], NULL);
}

typedef struct Heap {
  size_t pieces, bytes, all;
} Heap;

static void* take(void* given, size_t bytes, size_t alignment) {
  Heap* heap = given;
  void* memory = NULL;
  if (posix_memalign(&memory, alignment, bytes) != 0) return NULL;
  ++heap->pieces;
  ++heap->all;
  heap->bytes += bytes;
  return memory;
}

static void give_back(void* given, void* memory, size_t bytes) {
  Heap* heap = given;
  --heap->pieces;
  heap->bytes -= bytes;
  free(memory);
}

static void* take_nothing(void* given, size_t bytes, size_t alignment) {
  (void)given, (void)bytes, (void)alignment;
  return NULL;
}

static void require(int is_right, const char* what) {
  if (is_right) return;
  fprintf(stderr, "%s: %s\n", what, qfx_error());
  exit(1);
}

/* The first output's bytes, for an input that is made of a counter. */
static float* outputs(qfx_model* model, int64_t batch, size_t* bytes) {
  const qfx_value* input = qfx_input(model, 0);
  int64_t sizes[8], count = 1;
  for (int32_t d = 0; d < input->rank; ++d) {
    sizes[d] = input->sizes[d] >= 0 ? input->sizes[d] : d == 0 ? batch : 16;
    count *= sizes[d];
  }
  float* x = malloc((size_t)count * sizeof *x);
  for (int64_t i = 0; i < count; ++i) x[i] = (float)(i % 101) / 50 - 1;
  const qfx_tensor tensor = {x, QFX_FLOAT32, input->rank, sizes, NULL};
  qfx_results* results = NULL;
  require(qfx_run_new(model, &tensor, 1, &results) == QFX_OK, "qfx_run_new");
  const qfx_tensor* y = qfx_result(results, 0);
  *bytes = sizeof(float);
  for (int32_t d = 0; d < y->rank; ++d) *bytes *= (size_t)y->sizes[d];
  float* copy = malloc(*bytes);
  memcpy(copy, y->data, *bytes);
  qfx_results_free(results);
  free(x);
  return copy;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int64_t batch = strtol(argv[2], NULL, 10);
  size_t bytes = 0, own_bytes = 0;
  qfx_options options = QFX_OPTIONS;
  options.threads = MOST;
  qfx_model* model = NULL;
  require(qfx_open(argv[1], &options, &model) == QFX_OK, "qfx_open");
  float* own = outputs(model, batch, &own_bytes);
  qfx_close(model);

  Heap heap = {0, 0, 0};
  require(qfx_set_allocator(take, give_back, &heap) == QFX_OK, "qfx_set_allocator");
  require(qfx_open(argv[1], &options, &model) == QFX_OK, "qfx_open");
  for (int32_t most = 1; most <= MOST; ++most) {
    Pool pool = {most, 0, 0};
    qfx_set_thread_pool(run_on_pool, &pool);
    for (long i = strtol(argv[3], NULL, 10); i > 0; --i) {
      float* got = outputs(model, batch, &bytes);
      require(bytes == own_bytes && memcmp(got, own, bytes) == 0, "other outputs");
      free(got);
    }
    printf("pool of %" PRId32 ": %" PRId32 " regions, at most %" PRId32 " threads\n", most, pool.regions, pool.largest);
  }
  qfx_set_thread_pool(NULL, NULL);
  qfx_close(model);
  printf("heap: %zu pieces, %zu left, %zu bytes left\n", heap.all, heap.pieces, heap.bytes);

  require(qfx_set_allocator(take_nothing, give_back, &heap) == QFX_OK, "qfx_set_allocator");
  require(qfx_open(argv[1], &options, &model) == QFX_OK, "qfx_open");
  const int64_t sizes[] = {1, 3, 16, 16};
  const qfx_tensor tensor = {own, QFX_FLOAT32, 4, sizes, NULL};
  qfx_results* results = NULL;
  const qfx_status status = qfx_run_new(model, &tensor, 1, &results);
  printf("without memory: %d, %s\n", (int)status, qfx_error());
  qfx_close(model);
  require(qfx_set_allocator(NULL, NULL, NULL) == QFX_OK, "qfx_set_allocator");
  free(own);
  return 0;
}
