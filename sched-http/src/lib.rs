//! Reserved room.
