"""Programs of any language: they read cases and write answers, a line a case.

grammar    what a line says
inputs     the cases: `kbit-ref gen`
process    the pipes of a program that is run here
signature  the declaration of a C function
shared     a function of a shared library as such a program (`shared_worker` calls it)
"""
