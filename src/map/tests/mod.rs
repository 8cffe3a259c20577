//! The trees as a whole, against ordered maps of the standard library.

mod hostile;
mod map;
mod model;
mod shape;
