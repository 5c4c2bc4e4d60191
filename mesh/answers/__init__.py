"""What people ask of a mesh: who reaches whom and why, what concerns a pod, what a change would change."""
