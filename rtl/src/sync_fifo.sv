// A small FIFO in distributed RAM; the oldest entry stands at the output.
module sync_fifo #(
    parameter int unsigned WIDTH = 32,
    parameter int unsigned DEPTH = 16   // a power of two
) (
    input  logic             clk,
    input  logic             reset,
    input  logic [WIDTH-1:0] in_data,
    input  logic             in_valid,
    output logic             in_ready,
    output logic [WIDTH-1:0] out_data,
    output logic             out_valid,
    input  logic             out_ready
);

  localparam int unsigned AddressBits = $clog2(DEPTH);

  (* ram_style = "distributed" *) logic [WIDTH-1:0] memory[DEPTH];
  logic [AddressBits:0] head, tail;

  assign in_ready  = (tail ^ head) != {1'b1, {AddressBits{1'b0}}};
  assign out_valid = head != tail;
  assign out_data  = memory[head[AddressBits-1:0]];

  always_ff @(posedge clk) begin
    if (in_valid && in_ready) memory[tail[AddressBits-1:0]] <= in_data;
    if (reset) begin
      head <= '0;
      tail <= '0;
    end else begin
      if (in_valid && in_ready) tail <= tail + 1'b1;
      if (out_valid && out_ready) head <= head + 1'b1;
    end
  end

endmodule
