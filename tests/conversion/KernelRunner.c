// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linked with a kernel for another machine, which EmulatedKernel runs: calls it
// with the arguments that the file argv[1] holds, and changes them there. Words
// of 64 bits: how many arguments, then for each
//
//   -1, value                               an integer
//   rank, offset of data, sizes, strides    a memref; the offset is in bytes

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { MaxArguments = 16, MaxRank = 8 };

// A word for each argument of the kernel; of a memref, its descriptor's address.
void kernel_arguments(const int64_t *values);

int main(int argc, char **argv) {
  if (argc != 2)
    return 2;
  int file = open(argv[1], O_RDWR);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0)
    return 2;
  char *memory =
      mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED)
    return 2;

  const int64_t *word = (const int64_t *)memory;
  int64_t count = *word++;
  int64_t values[MaxArguments] = {0};
  static int64_t descriptors[MaxArguments][3 + 2 * MaxRank];
  for (int64_t i = 0; i < count; ++i) {
    int64_t rank = *word++, value = *word++;
    values[i] = value;
    if (rank < 0)
      continue;
    int64_t *descriptor = descriptors[i];
    descriptor[0] = descriptor[1] = (intptr_t)(memory + value);
    memcpy(descriptor + 3, word, 2 * rank * sizeof *word);
    word += 2 * rank;
    values[i] = (intptr_t)descriptor;
  }
  kernel_arguments(values);
  return 0;
}
