/* SPDX-License-Identifier: Apache-2.0 */
/* Where the simulated driver's programs begin. They run in containers whose C library may be much
 * older than the one they are built with, so they are linked without the build machine's start
 * files and against `stub_libc.c`: their references carry no symbol versions. */
#include <stddef.h>

int main(int argc, char **argv);
int __libc_start_main(int (*main_function)(int, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
void sim_start(void **stack, void (*rtld_fini)(void)) __attribute__((noreturn, used));

/* The kernel's hand-over: the stack pointer at argc, the loader's exit function in a register. */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tmov %rdx, %rsi\n"
        "\tand $-16, %rsp\n\tcall sim_start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x1, x0\n\tmov x0, sp\n"
        "\tb sim_start\n");
#else
#error "no start code for this architecture"
#endif

void sim_start(void **stack, void (*rtld_fini)(void))
{
	int argc = (int)(ptrdiff_t)stack[0];

	(void)__libc_start_main(main, argc, (char **)(stack + 1), NULL, NULL, rtld_fini, stack);
	__builtin_trap();
}
