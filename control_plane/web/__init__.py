"""What every server of ours stands on: the gate, sessions, problem documents, the frame of pages."""
