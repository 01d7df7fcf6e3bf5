/* A model with one input in C: reads the input's bytes from a file, and writes those of the first output.
 *
 *   infer MODEL.qfx SIZE INPUT OUTPUT      SIZE: what the sizes are that the model leaves to calls, such as the batch
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "qfx.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, qfx_error());
  return 1;
}

/* `bytes` bytes of a file, or NULL. */
static void* contents(const char* path, size_t bytes) {
  FILE* file = fopen(path, "rb");
  void* memory = malloc(bytes);
  if (file == NULL || memory == NULL || fread(memory, 1, bytes, file) != bytes) {
    fprintf(stderr, "%s does not have %zu bytes\n", path, bytes);
    free(memory);
    memory = NULL;
  }
  if (file != NULL) fclose(file);
  return memory;
}

static int write_output(const char* path, const qfx_tensor* output) {
  size_t count = 1;
  FILE* file = fopen(path, "wb");
  if (file == NULL) return 1;
  printf("%s", qfx_dtype_name(output->dtype));
  for (int32_t d = 0; d < output->rank; ++d) {
    count *= (size_t)output->sizes[d];
    printf(" %" PRId64, output->sizes[d]);
  }
  printf("\n");
  count = fwrite(output->data, qfx_dtype_size(output->dtype), count, file) != count;
  return fclose(file) != 0 || count != 0;
}

int main(int argc, char** argv) {
  qfx_model* model = NULL;
  qfx_results* results = NULL;
  qfx_options options = QFX_OPTIONS;
  int64_t sizes[8];
  int status = 1;
  if (argc != 5) {
    fprintf(stderr, "usage: %s MODEL.qfx SIZE INPUT OUTPUT\n", argv[0]);
    return 2;
  }
  options.threads = 1;
  if (qfx_open(argv[1], &options, &model) != QFX_OK) return failed("qfx_open");

  const qfx_value* input = qfx_input(model, 0);
  if (input == NULL || input->rank > 8) {
    fprintf(stderr, "%s has no input that this program can give\n", argv[1]);
    qfx_close(model);
    return 1;
  }
  size_t bytes = qfx_dtype_size(input->dtype);
  for (int32_t d = 0; d < input->rank; ++d) {
    sizes[d] = input->sizes[d] >= 0 ? input->sizes[d] : strtol(argv[2], NULL, 10);
    bytes *= (size_t)sizes[d];
  }
  void* data = contents(argv[3], bytes);
  if (data != NULL) {
    const qfx_tensor tensor = {data, input->dtype, input->rank, sizes, NULL};
    status = qfx_run_new(model, &tensor, 1, &results) == QFX_OK ? write_output(argv[4], qfx_result(results, 0))
                                                                : failed("qfx_run_new");
  }
  qfx_results_free(results);
  free(data);
  qfx_close(model);
  return status;
}
