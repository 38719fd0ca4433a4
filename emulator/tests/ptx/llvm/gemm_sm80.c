typedef unsigned u32; typedef unsigned long long u64; typedef unsigned short u16;
#define SH __attribute__((address_space(3)))
#define GL __attribute__((address_space(1)))
extern SH __attribute__((aligned(128))) char smem[];
#define I static inline __attribute__((always_inline))
#define BM 64
#define BN 64
#define BK 32
#define ST 3
I u32 base(void){ return (u32)(u64)(SH char*)smem; }
I void cp16(u32 dst, const void GL*src, u32 n){ asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"::"r"(dst),"l"(src),"r"(n):"memory"); }
I u32 sw(u32 row,u32 chunk){ return row*64 + ((chunk ^ ((row>>1)&3))<<4); }
I void ldsm4(u32*r,u32 a){ asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];":"=r"(r[0]),"=r"(r[1]),"=r"(r[2]),"=r"(r[3]):"r"(a):"memory"); }
I void mma(float*c,u32*a,u32 b0,u32 b1){ asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};":"+f"(c[0]),"+f"(c[1]),"+f"(c[2]),"+f"(c[3]):"r"(a[0]),"r"(a[1]),"r"(a[2]),"r"(a[3]),"r"(b0),"r"(b1)); }
I void load(u32 s,const u16 GL*A,const u16 GL*B,u32 m,u32 n,u32 k,u32 bm,u32 bn,u32 kk,u32 t){
  u32 sa=base()+s*8192, sb=sa+4096;
  #pragma clang loop unroll(full)
  for(int i=0;i<2;i++){
    u32 c=t+128*i, row=c>>2, ch=c&3, kc=kk+ch*8;
    u32 va = (bm+row<m && kc<k) ? (k-kc>=8?16:(k-kc)*2):0;
    u32 vb = (bn+row<n && kc<k) ? (k-kc>=8?16:(k-kc)*2):0;
    cp16(sa+sw(row,ch), va? A+(u64)(bm+row)*k+kc : A, va);
    cp16(sb+sw(row,ch), vb? B+(u64)(bn+row)*k+kc : B, vb);
  }
}
__attribute__((nvptx_kernel)) void gemm(const u16 GL*A,const u16 GL*B,float GL*out,u32 m,u32 n,u32 k){
  u32 t=__nvvm_read_ptx_sreg_tid_x(), l=t&31, w=t>>5;
  u32 bm=__nvvm_read_ptx_sreg_ctaid_y()*BM, bn=__nvvm_read_ptx_sreg_ctaid_x()*BN;
  u32 nk=(k+BK-1)/BK, wm=(w>>1)*32, wn=(w&1)*32;
  float c[2][4][4];
  #pragma clang loop unroll(full)
  for(int i=0;i<2;i++)
  #pragma clang loop unroll(full)
  for(int j=0;j<4;j++)
  #pragma clang loop unroll(full)
  for(int q=0;q<4;q++) c[i][j][q]=0;
  for(u32 s=0;s<ST-1;s++){ if(s<nk) load(s,A,B,m,n,k,bm,bn,s*BK,t); asm volatile("cp.async.commit_group;":::"memory"); }
  u32 rs=0, wsx=ST-1;
  for(u32 i=0;i<nk;i++){
    asm volatile("cp.async.wait_group %0;"::"n"(ST-2):"memory");
    asm volatile("bar.sync 0;":::"memory");
    if(i+ST-1<nk) load(wsx,A,B,m,n,k,bm,bn,(i+ST-1)*BK,t);
    asm volatile("cp.async.commit_group;":::"memory");
    u32 sa=base()+rs*8192, sb=sa+4096;
    #pragma clang loop unroll(full)
    for(int kk=0;kk<2;kk++){
      u32 a[2][4], b[2][4];
      #pragma clang loop unroll(full)
      for(int x=0;x<2;x++) ldsm4(a[x], sa+sw(wm+16*x+(l&15), 2*kk+(l>>4)));
      #pragma clang loop unroll(full)
      for(int x=0;x<2;x++) ldsm4(b[x], sb+sw(wn+16*x+(l&7)+((l>>4)<<3), 2*kk+((l>>3)&1)));
      #pragma clang loop unroll(full)
      for(int x=0;x<2;x++)
      #pragma clang loop unroll(full)
      for(int y=0;y<4;y++) mma(c[x][y],a[x],b[y>>1][2*(y&1)],b[y>>1][2*(y&1)+1]);
    }
    if(++rs==ST) rs=0;
    if(++wsx==ST) wsx=0;
  }
  #pragma clang loop unroll(full)
  for(int x=0;x<2;x++)
  #pragma clang loop unroll(full)
  for(int y=0;y<4;y++)
  #pragma clang loop unroll(full)
  for(int q=0;q<4;q++){
    u32 row=bm+wm+16*x+(l>>2)+8*(q>>1), col=bn+wn+8*y+2*(l&3)+(q&1);
    if(row<m&&col<n) out[(u64)row*n+col]=c[x][y][q];
  }
}
