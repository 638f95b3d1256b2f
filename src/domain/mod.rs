//! The rules: journals, workers, checkpoints and what is replicated. Deterministic and pure.
