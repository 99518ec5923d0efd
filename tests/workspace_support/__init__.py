"""What tests across distributions share."""
