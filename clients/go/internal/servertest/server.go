// SPDX-License-Identifier: Apache-2.0

// Package servertest starts a real millraced for tests.
package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const startMax = 60 * time.Second

// Server is a millraced with a data directory of its own.
type Server struct {
	directory string
	flags     []string
	ports     ports
	process   *exec.Cmd
}

type ports struct {
	GRPC    int `json:"grpc"`
	Worker  int `json:"worker"`
	Monitor int `json:"monitor"`
}

// Program is the path of millraced; "" if there is none.
func Program() string {
	folder := os.Getenv("MILLRACE_BIN")
	if folder == "" {
		// Up from the folder of whatever test this is, to the repository's.
		for folder = "build/bin"; !exists(filepath.Join(folder, "millraced")); folder = filepath.Join("..", folder) {
			if len(folder) > 40 {
				return ""
			}
		}
	}
	return filepath.Join(folder, "millraced")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Start starts a server and waits until it serves. Sessions end fast, so that tests see it.
func Start(flags ...string) (*Server, error) {
	directory, err := os.MkdirTemp("", "millrace-go-")
	if err != nil {
		return nil, err
	}
	fast := []string{"--session-timeout", "2s", "--reconnect-grace", "1s", "--heartbeat", "500ms"}
	s := &Server{directory: directory, flags: append(fast, flags...)}
	if err := s.Up(); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// Up starts the process, on the ports that it had before.
func (s *Server) Up() error {
	portFile := filepath.Join(s.directory, "ports")
	if err := os.Remove(portFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.directory, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	at := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	arguments := append([]string{
		"--data-dir", filepath.Join(s.directory, "data"), "--port-file", portFile, "--listen", at(s.ports.GRPC),
		"--worker-listen", at(s.ports.Worker), "--monitor-listen", at(s.ports.Monitor),
	}, s.flags...)
	s.process = exec.Command(Program(), arguments...)
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	for {
		text, err := os.ReadFile(portFile)
		if err == nil && json.Unmarshal(text, &s.ports) == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("millraced did not start:\n%s", s.Log())
		}
	}
}

// Address is where it serves gRPC.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.ports.GRPC) }

// Log is what it logged.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.directory, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Kill is kill -9.
func (s *Server) Kill() error {
	if err := s.process.Process.Kill(); err != nil {
		return err
	}
	_ = s.process.Wait() // it was killed: that is what this would say
	return nil
}

// Remove ends the process and removes its data.
func (s *Server) Remove() error {
	if s.process != nil && s.process.Process != nil && s.process.ProcessState == nil {
		if err := s.Kill(); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.directory)
}
