//! Tests of the exchange with captured answers.
