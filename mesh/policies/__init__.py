"""Who may reach whom: the reference semantics of every policy, and the compiler that must agree with it."""
