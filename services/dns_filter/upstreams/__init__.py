"""Asking upstream resolvers: one module per transport, and the pool that chooses between them."""
