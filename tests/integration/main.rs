//! Tests of the built command.

mod demo;
