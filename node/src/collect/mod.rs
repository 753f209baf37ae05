//! What the machine says about itself, read once a second.
