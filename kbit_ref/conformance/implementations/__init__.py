"""Run an implementation: a function, a library in a process of its own, a program, a shared library."""
