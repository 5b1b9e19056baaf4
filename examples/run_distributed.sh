#!/bin/bash
# Run msrun so that Ctrl-C or a scheduler, such as Slurm or Kubernetes, stops the training cleanly:
#
#     bash examples/run_distributed.sh --worker_num=2 --local_worker_num=2 examples/train_distributed.py
#
# msrun does not forward signals to its workers. On SIGTERM or SIGINT this script sends them SIGTERM, repeated every
# second because a worker ignores it until Model.train has begun. GracefulStop must be among the callbacks; with it,
# SIGUSR1 saves the state. With several machines, start the script on each; a signal to one of them stops all.
#
# The exit status is msrun's: 0 if every worker exited with 0, otherwise 1. If a signal stopped the run cleanly, it is
# 128 + the signal number instead of 0, so that a scheduler starts the run again; it then continues where it stopped.

stopped_by=
trap 'stopped_by=15' TERM
trap 'stopped_by=2' INT
( trap '' TERM INT USR1; exec setsid msrun --join=True "$@" ) &
msrun=$!
trap 'pkill -USR1 -P $msrun' USR1

while kill -0 $msrun 2>/dev/null; do
  [ -z "$stopped_by" ] || pkill -TERM -P $msrun # MindSpore's scheduler process also gets it and ignores it
  sleep 1 &
  wait $!
done
wait $msrun
status=$?
[ $status -ne 0 ] || [ -z "$stopped_by" ] || status=$((128 + stopped_by))
exit $status
