"""Events in the forms of other programs, a module each; docs/event-formats.md describes them all."""
