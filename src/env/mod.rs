//! The only door to files, sockets, clocks, threads and randomness.
