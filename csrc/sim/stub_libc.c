/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for libc.so.6 and libdl.so.2 while the simulated driver is linked, and only then. Their
 * symbols have no versions here, so what is linked runs with every glibc (the oldest version of a
 * symbol is taken) and asks only for what is listed. */
#define STUB(name) __asm__(".globl " #name "\n.type " #name ", %function\n" #name ":\n")

#ifdef SIM_STUB_DL
STUB(dlerror);
STUB(dlopen);
STUB(dlsym);
#else
STUB(__errno_location);
STUB(__libc_start_main);
STUB(close);
STUB(ctime_r);
STUB(memcpy);
STUB(memset);
STUB(open);
STUB(poll);
STUB(printf);
STUB(putchar);
STUB(puts);
STUB(snprintf);
STUB(strcasecmp);
STUB(strchr);
STUB(strcmp);
STUB(strlen);
STUB(strncmp);
STUB(strstr);
STUB(syscall);
STUB(time);
#endif
