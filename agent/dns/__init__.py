"""The mesh's resolver, a process of its own (`python -m agent.dns`): it needs neither agent nor control
plane to answer for what is known, and outlives both. What it must know it reads from files, what it learns
it writes to one (`mesh.dns`)."""
