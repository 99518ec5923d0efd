"""What tests of the schedule-free optimizer share."""
