/* SPDX-License-Identifier: Apache-2.0 */
/* What every fuzz target defines. With clang and -fsanitize=fuzzer it explores:
 *
 *   clang -g -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Icsrc -Itests/fuzz \
 *       tests/fuzz/fuzz_elf.c csrc/nvc_elf.c csrc/nvc_error.c -o /tmp/fuzz_elf
 *   /tmp/fuzz_elf /tmp/corpus tests/fuzz/corpus/elf
 *
 * Linked with replay.c, by any compiler, it runs once over the files of a corpus. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
