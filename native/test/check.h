#pragma once
#include <cstdio>
#include <cstdlib>

// Enough of a test framework: a check that fails names itself and ends the program.
#define CHECK(claim)                                                           \
  do {                                                                         \
    if (!(claim)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim); \
      std::exit(1);                                                            \
    }                                                                          \
  } while (false)
