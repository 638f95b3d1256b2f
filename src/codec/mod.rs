//! Bytes on disk and on the wire to types and back. Pure: no I/O, and no length field is ever trusted.
